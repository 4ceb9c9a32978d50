// llama2.c's tokenizer file: SentencePiece's pieces with their scores, blanks in place of its mark.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/tokenizer.hpp>

#include <cstring>
#include <filesystem>
#include <unordered_map>

#include <fmt/format.h>

#include "text/merge.hpp"
#include "text/unicode.hpp"

namespace parsimony {

namespace {

/// Ids 0 unknown, 1 beginning, 2 end, from 3 on the 256 bytes, then pieces.
class Llama2cTokenizer : public Tokenizer {
 public:
  Llama2cTokenizer(const std::string& path, index_t count) : file_(read_file(path)) {
    std::size_t at = 0;
    const auto take = [&](void* to, std::size_t size, index_t piece) {
      if (file_.size() - at < size) {
        throw InputError(
            fmt::format("'{}': piece {} of {}: the file ends inside it; expected "
                        "llama2.c's tokenizer, score, length and bytes a piece",
                        path, piece, count));
      }
      std::memcpy(to, file_.data() + at, size);
      at += size;
    };
    std::int32_t longest = 0;
    take(&longest, sizeof longest, 0);
    for (index_t i = 0; i < count; ++i) {
      float score = 0;
      std::int32_t length = 0;
      take(&score, sizeof score, i);
      take(&length, sizeof length, i);
      if (length < 0 || length > longest || longest > 1 << 16) {
        throw InputError(
            fmt::format("'{}': piece {}: expected a length in 0..{}, the longest; got "
                        "{}",
                        path, i, longest, length));
      }
      std::string piece(static_cast<std::size_t>(length), '\0');
      take(piece.data(), piece.size(), i);
      ids_.emplace(piece, static_cast<std::int32_t>(i));
      pieces_.push_back(std::move(piece));
      scores_.push_back(score);
    }
    if (at != file_.size()) {
      throw InputError(
          fmt::format("'{}': expected {} pieces, the model's vocabulary; {} bytes are "
                      "left over",
                      path, count, file_.size() - at));
    }
    if (count < first_piece) {
      throw InputError(
          fmt::format("'{}': expected at least {} pieces, with one for every byte; "
                      "got {}",
                      path, first_piece, count));
    }
  }

  void append_ids(std::string_view text, std::vector<std::int32_t>& out) const override {
    if (text.empty()) return;
    std::vector<std::int32_t> pieces;
    // A text begins with a blank, as a word inside one does.
    if (const auto blank = ids_.find(" "); blank != ids_.end()) pieces.push_back(blank->second);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      if (text::decode(text, at) < 0) {
        throw ValueError(fmt::format("tokenizer: byte {}: expected UTF-8; got 0x{:02X}", begin + 1,
                                     static_cast<unsigned char>(text[begin])));
      }
      const std::string_view character = text.substr(begin, at - begin);
      const auto found = ids_.find(std::string(character));
      if (found != ids_.end()) {
        pieces.push_back(found->second);
        continue;
      }
      for (const char c : character) pieces.push_back(first_byte + static_cast<unsigned char>(c));
    }
    text::join_neighbours(pieces, [&](std::int32_t left, std::int32_t right) {
      const auto found = ids_.find(piece(left) + piece(right));
      if (found == ids_.end()) return text::Joined{};
      return text::Joined{static_cast<double>(scores_[static_cast<std::size_t>(found->second)]),
                          found->second};
    });
    out.insert(out.end(), pieces.begin(), pieces.end());
  }

  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special) const override {
    std::string out;
    bool begins = true;
    for (const std::int32_t id : ids) {
      const std::string& text = token(id);
      if (is_special(id)) {
        if (!skip_special) out += text;
        begins = true;
        continue;
      }
      if (id >= first_byte && id < first_piece) {
        out += static_cast<char>(id - first_byte);
      } else {
        out.append(text, begins && !text.empty() && text[0] == ' ' ? 1 : 0, std::string::npos);
      }
      begins = false;
    }
    return text::replace_invalid_utf8(out);
  }

  void save(const std::string& folder) const override {
    make_folders(folder);
    write_file_atomically((std::filesystem::path(folder) / "tokenizer.bin").string(), file_);
  }

  index_t size() const override { return static_cast<index_t>(pieces_.size()); }
  const std::string& token(index_t id) const override {
    if (id < 0 || id >= size()) {
      throw ValueError(fmt::format("token: expected an id in 0..{}; got {}", size() - 1, id));
    }
    return pieces_[static_cast<std::size_t>(id)];
  }
  std::int32_t bos_id() const override { return 1; }
  std::int32_t eos_id() const override { return 2; }
  bool is_special(index_t id) const override { return id >= 0 && id < first_byte; }
  bool begins_with_bos() const override { return true; }
  // Such models are trained on texts that are parted by the token of the beginning.
  bool is_end(std::int32_t id) const override { return id == 1 || id == 2; }

 private:
  static constexpr std::int32_t first_byte = 3, first_piece = 259;
  const std::string& piece(std::int32_t id) const { return pieces_[static_cast<std::size_t>(id)]; }
  std::string file_;
  std::vector<std::string> pieces_;
  std::vector<float> scores_;
  std::unordered_map<std::string, std::int32_t> ids_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_llama2c_tokenizer(const std::string& path, index_t size) {
  return std::make_unique<Llama2cTokenizer>(path, size);
}

}  // namespace parsimony
