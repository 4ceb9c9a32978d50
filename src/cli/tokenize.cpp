// parsimony tokenize: text into the ids that a model gets, a line at a time; and --train, which
// learns the vocabulary for that.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/tokenizer.hpp>
#include <parsimony/vocabulary.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include <fmt/format.h>

#include "cli/command.hpp"

namespace parsimony::cli {

namespace {

namespace fs = std::filesystem;

struct TokenizeSettings {
  std::string model, input = "-", output = "-", out;
  std::vector<std::string> train, more;
  VocabularyOptions vocabulary;
  index_t max_length = 0;
  bool tokens = false, cased = false, quiet = false;
};

WordPieceOptions options_of(const TokenizeSettings& s) {
  WordPieceOptions options;
  options.lower_case = !s.cased;
  return options;
}

/// The lines of a file or of stdin, without their ends.
class LineReader {
 public:
  explicit LineReader(const std::string& path)
      : name_(input_name(path)), file_(::fdopen(open_input(path), "rb")) {}
  ~LineReader() {
    std::free(line_);
    std::fclose(file_);
  }
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// @throws InputError naming line and byte if it is not UTF-8.
  std::optional<std::string_view> next() {
    errno = 0;
    const ssize_t size = ::getline(&line_, &capacity_, file_);
    if (size < 0) {
      if (std::ferror(file_) != 0 || errno == ENOMEM) {
        throw IoError(fmt::format("read: reading '{}' failed: {}", name_,
                                  std::generic_category().message(errno)));
      }
      return {};
    }
    ++number_;
    std::string_view line(line_, static_cast<std::size_t>(size));
    if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    check_utf8(name_, line, number_);
    return line;
  }
  /// An error about the line read last.
  [[noreturn]] void refuse(const std::string& what) const {
    throw InputError(fmt::format("'{}': line {}: {}", name_, number_, what));
  }

 private:
  std::string name_;
  std::FILE* file_;
  char* line_ = nullptr;
  std::size_t capacity_ = 0;
  std::int64_t number_ = 0;
};

Encoding encode_line(const Tokenizer& tokenizer, std::string_view line, index_t max_length,
                     const LineReader& reader) {
  const std::size_t tab = line.find('\t');
  if (tab == std::string_view::npos) return tokenizer.encode(line, {}, max_length);
  const std::string_view second = line.substr(tab + 1);
  const auto more = std::count(second.begin(), second.end(), '\t');
  if (more > 0) {
    reader.refuse(fmt::format("expected one text, or two parted by a tab; got {}", more + 2));
  }
  return tokenizer.encode(line.substr(0, tab), second, max_length);
}

/// A folder with vocab.txt, or such a file, is a BERT's; other folders say what they are.
std::unique_ptr<Tokenizer> tokenizer_of(const TokenizeSettings& s) {
  const std::string model = model_folder(s.model);
  std::error_code error;
  if (fs::is_directory(model, error) && !fs::exists(fs::path(model) / "vocab.txt", error)) {
    return load_tokenizer(model);
  }
  return std::make_unique<WordPieceTokenizer>(WordPieceTokenizer::load(model, options_of(s)));
}

/// @throws ValueError if one of these differs from its default, which `where` has no use for.
void check_unused(const std::string& where,
                  const std::vector<std::pair<std::string, bool>>& given) {
  for (const auto& [option, used] : given) {
    if (used) throw ValueError(fmt::format("{}: has no effect {}", option, where));
  }
}

int tokenize(const TokenizeSettings& s) {
  if (!s.more.empty()) {
    throw ValueError(fmt::format("tokenize: unexpected argument '{}'; text is named with --input",
                                 printable(s.more.front())));
  }
  const VocabularyOptions usual;
  check_unused("on a vocabulary that is there; it is for --train",
               {{"--vocab-size", s.vocabulary.size != usual.size},
                {"--min-frequency", s.vocabulary.min_frequency != usual.min_frequency},
                {"--alphabet", s.vocabulary.alphabet_limit != usual.alphabet_limit},
                {"--out", !s.out.empty()}});
  // The shortest possible limit, checked before anything is read or written.
  if (s.max_length != 0 && s.max_length < 3) {
    throw ValueError(fmt::format(
        "--max-length: expected 3 or more, for [CLS] and two [SEP], or 0 for no limit; got {}",
        s.max_length));
  }
  const auto loaded = tokenizer_of(s);
  const Tokenizer& tokenizer = *loaded;
  LineReader reader(s.input);
  const auto each_line = [&](auto&& write) {
    fmt::memory_buffer out;
    while (const auto line = reader.next()) {
      const Encoding e = encode_line(tokenizer, *line, s.max_length, reader);
      out.clear();
      for (const std::int32_t id : e.ids) {
        if (out.size() > 0) out.push_back(' ');
        if (s.tokens) {
          const std::string& token = tokenizer.token(id);
          out.append(token.data(), token.data() + token.size());
        } else {
          fmt::format_to(std::back_inserter(out), "{}", id);
        }
      }
      out.push_back('\n');
      write(std::string_view(out.data(), out.size()));
    }
  };
  if (s.output == "-") {
    each_line([](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); });
  } else {
    write_file_atomically(s.output, [&](AtomicFile& file) {
      each_line([&](std::string_view text) { file.write(text); });
    });
  }
  return 0;
}

int train(const TokenizeSettings& s) {
  if (!s.model.empty()) {
    throw ValueError("tokenize: expected --model to tokenize or --train to learn; got both");
  }
  check_unused("beside --train", {{"--input", s.input != "-"},
                                  {"--output", s.output != "-"},
                                  {"--tokens", s.tokens},
                                  {"--max-length", s.max_length != 0}});
  if (s.out.empty()) throw ValueError("tokenize: --train needs a folder to write to, --out DIR");
  for (const char* file : {"config.json", "model.safetensors", "pytorch_model.bin"}) {
    std::error_code error;
    if (fs::exists(fs::path(s.out) / file, error)) {
      throw ValueError(
          fmt::format("--out: {} has a {}: a model would lose its vocabulary; name another folder",
                      s.out, file));
    }
  }
  std::vector<std::string> files = s.train;
  files.insert(files.end(), s.more.begin(), s.more.end());
  const auto start = std::chrono::steady_clock::now();
  const std::vector<WordCount> words = count_words(files, options_of(s));
  const WordPieceTokenizer tokenizer(train_wordpiece(words, s.vocabulary), options_of(s));
  tokenizer.save(s.out);
  if (s.quiet) return 0;
  std::int64_t total = 0;
  for (const WordCount& word : words) total += word.second;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  fmt::print(stderr, "{} words, {} of them different; {} tokens in {}/vocab.txt ({:.1f} s)\n",
             total, words.size(), tokenizer.size(), s.out, seconds.count());
  if (tokenizer.size() < s.vocabulary.size) {
    fmt::print(stderr, "No other pair occurs {} times: fewer than the {} tokens asked for.\n",
               s.vocabulary.min_frequency, s.vocabulary.size);
  }
  return 0;
}

}  // namespace

Command tokenize_command() {
  auto s = std::make_shared<TokenizeSettings>();
  Command c;
  c.name = "tokenize";
  c.summary = "Text into the token ids of a model, or learn a vocabulary";
  c.details =
      "Writes a line of ids for each line of text, [CLS] and [SEP] included; two texts parted by a "
      "tab are a pair. A model is a Hugging Face folder with vocab.txt (BERT), vocab.json and "
      "merges.txt (GPT-2) or tokenizer.model (LLaMA), or a vocab.txt alone. With "
      "--train a vocabulary is learned from text files and written to --out, as transformers reads "
      "it.";
  c.examples = {"parsimony tokenize --model bert-base-uncased --input text.txt --output ids.txt",
                "echo 'How deep?' | parsimony tokenize --model bert-base-uncased --tokens",
                "parsimony tokenize --model bert-base-uncased --input pairs.tsv --max-length 128",
                "parsimony tokenize --train a.txt b.txt --vocab-size 8192 --out my-model"};
  VocabularyOptions& v = s->vocabulary;
  c.options = {
      {"--model", "DIR", "model folder, a run with one, or vocab.txt", &s->model},
      {"--input", "FILE", "text, or - for stdin (-)", &s->input},
      {"--output", "FILE", "where the ids go, or - for stdout (-)", &s->output},
      {"--tokens", "", "write tokens in place of ids", &s->tokens},
      {"--max-length", "N", "cut to N ids, the longer text of a pair first (0 = no limit)",
       &s->max_length},
      {"--train", "FILE", "text to learn a vocabulary from, with the files that follow", &s->train},
      {"FILES", "", "more text for --train", &s->more},
      {"--vocab-size", "N", "tokens to learn, special ones included (8192)", &v.size},
      {"--min-frequency", "N", "only join pairs that occur N times (2)", &v.min_frequency},
      {"--alphabet", "N", "keep the N most frequent characters (1000)", &v.alphabet_limit},
      {"--cased", "", "keep capitals and accents (for --train, or a bare vocab.txt)", &s->cased},
      {"--out", "DIR", "folder for the vocabulary", &s->out},
      quiet_option(&s->quiet)};
  c.action = [s] {
    if (!s->train.empty()) return train(*s);
    if (s->model.empty()) {
      throw ValueError(
          "tokenize: name a model with --model DIR, or text to learn from with --train");
    }
    return tokenize(*s);
  };
  return c;
}

}  // namespace parsimony::cli
