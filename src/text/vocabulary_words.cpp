// Counting the words of text, file by file.
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/vocabulary.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <system_error>
#include <unordered_map>

#include <fmt/format.h>

#include "text/specials.hpp"
#include "text/words.hpp"

namespace parsimony {

namespace {

constexpr std::size_t block_size = 1 << 20;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

struct WordCounter::Impl {
  explicit Impl(const WordPieceOptions& options)
      : splitter(options), limit(static_cast<std::size_t>(options.max_word_characters)) {}

  void add(std::string_view word) {
    const auto found = counts.find(word);
    if (found != counts.end()) {
      ++found->second;
      return;
    }
    stored.emplace_back(word);
    counts.emplace(stored.back(), 1);
  }

  text::WordSplitter splitter;
  std::size_t limit;
  text::WordScratch scratch;
  std::deque<std::string> stored;  // what the keys point to
  std::unordered_map<std::string_view, std::int64_t> counts;
};

WordCounter::WordCounter(const WordPieceOptions& options) : impl_(std::make_unique<Impl>(options)) {
  if (options.max_word_characters < 1) {
    throw ValueError(fmt::format("WordCounter: max_word_characters: expected 1 or more; got {}",
                                 options.max_word_characters));
  }
}
WordCounter::~WordCounter() = default;
WordCounter::WordCounter(WordCounter&&) noexcept = default;
WordCounter& WordCounter::operator=(WordCounter&&) noexcept = default;

void WordCounter::add(std::string_view text) {
  const auto on_word = [this](std::string_view word, std::size_t characters) {
    if (characters <= impl_->limit) impl_->add(word);
  };
  text::split_at_specials(
      text,
      [&](std::string_view part, std::size_t origin) {
        impl_->splitter.split(part, origin, impl_->scratch, on_word);
      },
      [](std::size_t) {});
}

void WordCounter::add_file(const std::string& path) {
  const auto reason = [] { return std::generic_category().message(errno); };
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rb"));
  if (!file) throw InputError(fmt::format("{}: cannot be read: {}", path, reason()));
  std::string block;
  std::int64_t line = 1;
  const auto take = [&](std::string_view lines) {
    if (const auto bad = find_invalid_utf8(lines); bad != std::string_view::npos) {
      const std::string_view before = lines.substr(0, bad);
      const std::size_t start = before.rfind('\n') + 1;  // npos + 1 is 0
      throw InputError(fmt::format("{}: line {}, byte {}: expected UTF-8; got 0x{:02X}", path,
                                   line + std::count(before.begin(), before.end(), '\n'),
                                   bad - start + 1, static_cast<unsigned char>(lines[bad])));
    }
    add(lines);
    line += std::count(lines.begin(), lines.end(), '\n');
  };
  for (bool more = true; more;) {
    const std::size_t kept = block.size();
    block.resize(kept + block_size);
    const std::size_t got = std::fread(block.data() + kept, 1, block_size, file.get());
    block.resize(kept + got);
    if (std::ferror(file.get()) != 0) {
      throw InputError(fmt::format("{}: cannot be read: {}", path, reason()));
    }
    more = got == block_size;
    const std::size_t end = more ? block.rfind('\n') + 1 : block.size();
    take(std::string_view(block).substr(0, end));
    block.erase(0, end);
  }
}

std::vector<WordCount> WordCounter::words() const {
  std::vector<WordCount> words;
  words.reserve(impl_->counts.size());
  for (const auto& [word, count] : impl_->counts) words.emplace_back(word, count);
  std::sort(words.begin(), words.end());
  return words;
}

}  // namespace parsimony
