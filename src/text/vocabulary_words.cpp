// Counting the words of text, file by file.
#include <parsimony/error.hpp>
#include <parsimony/input_files.hpp>
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
      : specials(options.added_tokens),
        splitter(options),
        limit(static_cast<std::size_t>(options.max_word_characters)) {}

  void add(std::string_view word) {
    const auto found = counts.find(word);
    if (found != counts.end()) {
      ++found->second;
      return;
    }
    stored.emplace_back(word);
    counts.emplace(stored.back(), 1);
  }

  text::Specials specials;
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
  impl_->specials.split(
      text,
      [&](std::string_view part, std::size_t origin) {
        impl_->splitter.split(part, origin, impl_->scratch, on_word);
      },
      [](std::size_t) {});
}

void WordCounter::add_file(const std::string& path) {
  const std::unique_ptr<std::FILE, CloseFile> file(::fdopen(open_input(path), "rb"));
  std::string block;
  std::int64_t line = 1;
  const auto take = [&](std::string_view lines) {
    check_text(path, lines, line);
    add(lines);
    line += std::count(lines.begin(), lines.end(), '\n');
  };
  for (bool more = true; more;) {
    const std::size_t kept = block.size();
    block.resize(kept + block_size);
    const std::size_t got = std::fread(block.data() + kept, 1, block_size, file.get());
    block.resize(kept + got);
    if (std::ferror(file.get()) != 0) {
      throw IoError(fmt::format("read: reading '{}' failed: {}", path,
                                std::generic_category().message(errno)));
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

std::vector<WordCount> count_words(const std::vector<std::string>& files,
                                   const WordPieceOptions& options) {
  WordCounter counter(options);
  for (const std::string& file : files) counter.add_file(file);
  std::vector<WordCount> words = counter.words();
  if (words.empty()) {
    throw InputError(
        fmt::format("'{}': expected text; there are no words", fmt::join(files, "', '")));
  }
  return words;
}

}  // namespace parsimony
