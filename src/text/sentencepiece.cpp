// SentencePiece models (Kudo and Richardson 2018) through Google's library: the only file that
// includes it.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/tokenizer.hpp>

#include <filesystem>

#include <fmt/format.h>

#ifdef PARSIMONY_SENTENCEPIECE
#include <sentencepiece_processor.h>
#endif

namespace parsimony {

#ifdef PARSIMONY_SENTENCEPIECE

namespace {

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::string& path) : file_(read_file(path)) {
    const auto status = model_.LoadFromSerializedProto(file_);
    if (!status.ok() || model_.GetPieceSize() < 1) {
      throw InputError(
          fmt::format("'{}': expected a SentencePiece model; {}", path, status.ToString()));
    }
  }

  void append_ids(std::string_view text, std::vector<std::int32_t>& out) const override {
    const std::size_t bad = find_invalid_utf8(text);
    if (bad != std::string_view::npos) {
      throw ValueError(fmt::format("tokenizer: byte {}: expected UTF-8; got 0x{:02X}", bad + 1,
                                   static_cast<unsigned char>(text[bad])));
    }
    std::vector<int> found;
    const auto status = model_.Encode({text.data(), text.size()}, &found);
    if (!status.ok()) throw ValueError("sentencepiece: " + status.ToString());
    out.insert(out.end(), found.begin(), found.end());
  }
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special) const override {
    std::vector<int> kept;
    for (const std::int32_t id : ids) {
      token(id);  // checks
      if (!skip_special || !is_special(id)) kept.push_back(id);
    }
    std::string out;
    const auto status = model_.Decode(kept, &out);
    if (!status.ok()) throw ValueError("sentencepiece: " + status.ToString());
    return out;
  }
  void save(const std::string& folder) const override {
    make_folders(folder);
    write_file_atomically((std::filesystem::path(folder) / "tokenizer.model").string(), file_);
  }
  index_t size() const override { return model_.GetPieceSize(); }
  const std::string& token(index_t id) const override {
    if (id < 0 || id >= size()) {
      throw ValueError(fmt::format("token: expected an id in 0..{}; got {}", size() - 1, id));
    }
    return model_.IdToPiece(static_cast<int>(id));
  }
  std::int32_t bos_id() const override { return model_.bos_id(); }
  std::int32_t eos_id() const override { return model_.eos_id(); }
  std::int32_t pad_id() const override {
    return model_.pad_id() >= 0 ? model_.pad_id() : Tokenizer::pad_id();
  }
  bool is_special(index_t id) const override {
    return model_.IsControl(static_cast<int>(id)) || model_.IsUnknown(static_cast<int>(id));
  }
  bool begins_with_bos() const override { return bos_id() >= 0; }

 private:
  std::string file_;
  sentencepiece::SentencePieceProcessor model_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path) {
  return std::make_unique<SentencePieceTokenizer>(path);
}

#else

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& path) {
  throw InputError(fmt::format(
      "'{}' is a SentencePiece model, which this build cannot read: install the library "
      "(Debian: libsentencepiece-dev) and build with -Dsentencepiece=enabled",
      path));
}

#endif

}  // namespace parsimony
