// From text files to packed, masked sequences.
#include <parsimony/error.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/pretrain.hpp>

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace parsimony {

namespace {

/// Lines of a file as ids, one after the other; starts[i] is where line i begins.
struct Lines {
  std::vector<std::int32_t> ids;
  std::vector<std::size_t> starts;
};

Lines read_lines(const WordPieceTokenizer& tokenizer, const std::string& path) {
  const std::string text = read_text(path);
  Lines out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::size_t before = out.ids.size();
    tokenizer.append_ids(std::string_view(text).substr(at, end - at), out.ids);
    if (out.ids.size() > before) out.starts.push_back(before);
    at = end + 1;
  }
  return out;
}

/// Appends one sequence of ids [first, first + room), cut in two at `split` where that is inside.
void append(PackedCorpus& out, const WordPieceTokenizer& t, const Lines& lines, std::size_t first,
            std::size_t split, std::size_t room) {
  std::uint8_t type = 0;
  const auto put = [&](std::int32_t id) {
    out.ids.push_back(id);
    out.type_ids.push_back(type);
  };
  put(t.cls_id());
  for (std::size_t i = first; i < first + room; ++i) {
    if (i == split && i > first) {
      put(t.sep_id());
      type = 1;
    }
    put(lines.ids[i]);
  }
  put(t.sep_id());
}

void check_not_empty(const PackedCorpus& corpus, const std::vector<std::string>& files) {
  if (corpus.size() > 0) return;
  throw TooLittleText(
      fmt::format("'{}': expected text for at least one sequence of {} tokens; there is less",
                  fmt::join(files, "', '"), corpus.length));
}

}  // namespace

PackedCorpus pack_corpus(const WordPieceTokenizer& tokenizer, const std::vector<std::string>& files,
                         index_t length) {
  if (length < 8) throw ValueError(fmt::format("length: expected at least 8; got {}", length));
  PackedCorpus out;
  out.length = length;
  for (const std::string& path : files) {
    const Lines lines = read_lines(tokenizer, path);
    const auto whole = static_cast<std::size_t>(length);
    std::size_t at = 0;
    while (true) {
      // The line that begins nearest to the middle parts the sequence, if one begins inside.
      const std::size_t middle = at + whole / 2;
      const auto after = std::lower_bound(lines.starts.begin(), lines.starts.end(), middle);
      std::size_t split = after == lines.starts.end() ? lines.ids.size() : *after;
      if (after != lines.starts.begin() &&
          (split >= at + whole - 3 || middle - *(after - 1) < split - middle)) {
        split = *(after - 1);
      }
      const bool pair = split > at && split < at + whole - 3;
      const std::size_t room = whole - (pair ? 3 : 2);
      if (at + room > lines.ids.size()) break;
      append(out, tokenizer, lines, at, pair ? split : lines.ids.size(), room);
      at += room;
    }
  }
  check_not_empty(out, files);
  return out;
}

PackedCorpus pack_text(const Tokenizer& tokenizer, const std::vector<std::string>& files,
                       index_t length) {
  if (length < 8) throw ValueError(fmt::format("length: expected at least 8; got {}", length));
  PackedCorpus out;
  out.length = length;
  for (const std::string& path : files) {
    const std::string text = read_text(path);
    std::vector<std::int32_t> ids;
    for (std::size_t at = 0; at < text.size();) {
      std::size_t end = std::min(text.find("\n\n", at), text.size());
      if (tokenizer.begins_with_bos()) ids.push_back(tokenizer.bos_id());
      tokenizer.append_ids(std::string_view(text).substr(at, end - at), ids);
      if (tokenizer.eos_id() >= 0) ids.push_back(tokenizer.eos_id());
      while (end < text.size() && text[end] == '\n') ++end;
      at = end;
    }
    const std::size_t whole = ids.size() / static_cast<std::size_t>(length);
    out.ids.insert(out.ids.end(), ids.begin(),
                   ids.begin() + static_cast<long>(whole * static_cast<std::size_t>(length)));
  }
  check_not_empty(out, files);
  return out;
}

PackedCorpus pack_windows(const Tokenizer& tokenizer, const std::vector<std::string>& files,
                          index_t length) {
  if (length < 8) throw ValueError(fmt::format("length: expected at least 8; got {}", length));
  PackedCorpus out;
  out.length = length;
  const bool bos = tokenizer.begins_with_bos();
  const auto room = static_cast<std::size_t>(length - (bos ? 1 : 0));
  for (const std::string& path : files) {
    const std::vector<std::int32_t> ids = tokenizer.ids(read_text(path));
    for (std::size_t at = 0; at + room <= ids.size(); at += room) {
      if (bos) out.ids.push_back(tokenizer.bos_id());
      const auto from = ids.begin() + static_cast<std::ptrdiff_t>(at);
      out.ids.insert(out.ids.end(), from, from + static_cast<std::ptrdiff_t>(room));
    }
  }
  check_not_empty(out, files);
  return out;
}

MaskedBatch mask_sequences(const PackedCorpus& corpus, const std::vector<index_t>& rows,
                           const WordPieceTokenizer& tokenizer, double share, const Rng& rng) {
  const auto count = static_cast<index_t>(rows.size());
  const index_t length = corpus.length;
  MaskedBatch out;
  out.tokens.ids = Tensor<std::int64_t>({count, length});
  out.tokens.type_ids = Tensor<std::int64_t>({count, length});
  std::int64_t* ids = out.tokens.ids.mutable_data();
  std::int64_t* types = out.tokens.type_ids.mutable_data();
  std::vector<index_t> candidates;
  for (index_t b = 0; b < count; ++b) {
    const index_t from = rows[static_cast<std::size_t>(b)] * length;
    for (index_t i = 0; i < length; ++i) {
      const std::int32_t id = corpus.ids[static_cast<std::size_t>(from + i)];
      ids[b * length + i] = id;
      types[b * length + i] = corpus.type_ids[static_cast<std::size_t>(from + i)];
      if (!tokenizer.is_special(id)) candidates.push_back(b * length + i);
    }
  }
  if (candidates.empty()) throw InputError("corpus: expected ordinary tokens; got none in a batch");
  Rng draw = rng;
  const auto available = static_cast<index_t>(candidates.size());
  const auto wanted = static_cast<index_t>(share * static_cast<double>(available));
  const std::vector<index_t> chosen =
      draw.choose(available, std::min(available, std::max<index_t>(1, wanted)));
  const auto predicted = static_cast<index_t>(chosen.size());
  out.places = Tensor<std::int64_t>({predicted});
  out.labels = Tensor<std::int64_t>({predicted});
  for (index_t i = 0; i < predicted; ++i) {
    const index_t place = candidates[static_cast<std::size_t>(chosen[static_cast<std::size_t>(i)])];
    out.places.mutable_data()[i] = place;
    out.labels.mutable_data()[i] = ids[place];
    const double u = draw.uniform();
    if (u < 0.8) {
      ids[place] = tokenizer.mask_id();
    } else if (u < 0.9) {
      ids[place] = draw.below(tokenizer.size());
    }
  }
  return out;
}

}  // namespace parsimony
