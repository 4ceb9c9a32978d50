#include "lm/compress_text.hpp"

#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/generate.hpp>

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

namespace parsimony {

TextParts::TextParts(const CompressionSource& source, index_t longest,
                     std::vector<std::string>& remarks,
                     const std::function<PackedCorpus(index_t)>& pack) {
  constexpr index_t least = 16;
  constexpr index_t wanted = 3;
  if (source.length < least || source.length > longest) {
    throw ValueError(fmt::format("--length: expected {}..{}, the most the model reads; got {}",
                                 least, longest, source.length));
  }
  for (index_t length = source.length;; length /= 2) {
    try {
      corpus_ = pack(length);
    } catch (const TooLittleText&) {
      corpus_ = {};
    }
    if (corpus_.size() >= wanted) {
      if (length < source.length) {
        remarks.push_back(
            fmt::format("calibration: little text; sequences of {} tokens instead of {}", length,
                        source.length));
      }
      break;
    }
    if (length / 2 < least) {
      throw InputError(fmt::format(
          "'{}': expected text for at least {} sequences of {} tokens, {}; there is enough for {}",
          fmt::join(source.calibration, "', '"), wanted, length,
          length == source.length
              ? "the length asked for"
              : fmt::format("to which the {} asked for were halved", source.length),
          corpus_.size()));
    }
  }
  const index_t n = corpus_.size();
  const index_t held = std::max<index_t>(1, std::min(source.windows, n / 4));
  const std::vector<index_t> order = Rng(0).split("parts").permutation(n);
  for (index_t i = 0; i < n; ++i) {
    const index_t row = order[static_cast<std::size_t>(i)];
    if (i < held) {
      test_.push_back(row);
    } else if (i < 2 * held) {
      allocation_.push_back(row);
    } else if (static_cast<index_t>(calibration_.size()) < source.sequences) {
      calibration_.push_back(row);
    }
  }
  for (auto* part : {&test_, &allocation_, &calibration_}) std::sort(part->begin(), part->end());
}

const std::vector<index_t>& TextParts::of(Part part) const {
  return part == Part::calibration ? calibration_ : part == Part::allocation ? allocation_ : test_;
}

std::vector<index_t> TextParts::rows(Part part, const std::vector<index_t>& sequences) const {
  std::vector<index_t> out;
  for (const index_t s : sequences) out.push_back(of(part).at(static_cast<std::size_t>(s)));
  return out;
}

std::unique_ptr<CompressionData> text_compression(const CompressionSource& source) {
  if (source.calibration.empty()) throw ValueError("compress: expected text files to calibrate on");
  if (names_decoder(source.model)) return causal_text(source);
  if (!source.tokenizer.empty()) throw ValueError("--tokenizer: expected a GPT-2 or LLaMA with it");
  return masked_text(source);
}

void copy_files(const std::vector<std::string>& names, const std::string& from,
                const std::string& to) {
  for (const std::string& name : names) {
    const std::filesystem::path file = std::filesystem::path(from) / name;
    if (!from.empty() && std::filesystem::exists(file)) {
      write_file_atomically((std::filesystem::path(to) / name).string(), read_file(file.string()));
    }
  }
}

}  // namespace parsimony
