// From text files to packed, masked sequences.
#include <parsimony/error.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/pretrain.hpp>

#include <algorithm>
#include <array>
#include <iterator>

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

namespace {

/// Makes a row's words a text and its twin: [CLS] A [SEP] B [SEP], where A is the row's first
/// words, an eighth to a half of the row, and B is A without some of them (up to three in ten),
/// then what comes after A. A row with too few ordinary tokens is left as it is.
void make_twins(std::int64_t* ids, std::int64_t* types, index_t length,
                const WordPieceTokenizer& tokenizer, Rng& draw) {
  std::vector<std::int64_t> words;
  std::copy_if(ids, ids + length, std::back_inserter(words),
               [&](std::int64_t id) { return !tokenizer.is_special(id); });
  const index_t room = length - 3;
  if (static_cast<index_t>(words.size()) < room) return;
  const index_t least = std::max<index_t>(1, length / 8);
  const index_t first = least + draw.below(room / 2 - least + 1);
  const double dropped = 0.3 * draw.uniform();
  std::vector<std::int64_t> row{tokenizer.cls_id()};
  row.insert(row.end(), words.begin(), words.begin() + first);
  row.push_back(tokenizer.sep_id());
  for (index_t i = 0; i < first; ++i) {
    if (draw.uniform() >= dropped) row.push_back(words[static_cast<std::size_t>(i)]);
  }
  row.insert(row.end(), words.begin() + first, words.end());
  row.resize(static_cast<std::size_t>(length));
  row.back() = tokenizer.sep_id();
  std::copy(row.begin(), row.end(), ids);
  for (index_t i = 0; i < length; ++i) types[i] = i >= first + 2 ? 1 : 0;
}

}  // namespace

MaskedBatch mask_sequences(const PackedCorpus& corpus, const std::vector<index_t>& rows,
                           const WordPieceTokenizer& tokenizer, double share, const Rng& rng,
                           double twins) {
  const auto count = static_cast<index_t>(rows.size());
  const index_t length = corpus.length;
  MaskedBatch out;
  out.tokens.ids = Tensor<std::int64_t>({count, length});
  out.tokens.type_ids = Tensor<std::int64_t>({count, length});
  std::int64_t* ids = out.tokens.ids.mutable_data();
  std::int64_t* types = out.tokens.type_ids.mutable_data();
  std::vector<index_t> candidates;
  Rng pairs = rng.split("twins");
  for (index_t b = 0; b < count; ++b) {
    const index_t from = rows[static_cast<std::size_t>(b)] * length;
    std::copy_n(corpus.ids.begin() + from, length, ids + b * length);
    std::copy_n(corpus.type_ids.begin() + from, length, types + b * length);
    if (twins > 0 && pairs.uniform() < twins) {
      make_twins(ids + b * length, types + b * length, length, tokenizer, pairs);
    }
    for (index_t i = b * length; i < (b + 1) * length; ++i) {
      if (!tokenizer.is_special(ids[i])) candidates.push_back(i);
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
