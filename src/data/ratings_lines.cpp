// Lines and fields of a text table, see the header. Reading in blocks keeps a file of any size out
// of memory; the fields of a line are views into the block.
#include "data/ratings_lines.hpp"

#include <parsimony/error.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/ratings.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

namespace parsimony::detail {

namespace {

constexpr std::size_t block_size = std::size_t{1} << 20;

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

}  // namespace

std::size_t text_start(const std::string& name, std::string_view bytes) {
  if (bytes.empty()) throw InputError(fmt::format("{}: the file is empty", name));
  // gzip, zip, bzip2, xz, zstd
  for (const char* magic : {"\x1f\x8b", "PK\x03\x04", "BZh", "\xfd\x37zXZ", "\x28\xb5\x2f\xfd"}) {
    if (starts_with(bytes, magic)) {
      throw InputError(fmt::format("{}: the file is compressed; unpack it first", name));
    }
  }
  if (starts_with(bytes, "\xff\xfe") || starts_with(bytes, "\xfe\xff")) {
    throw InputError(fmt::format("{}: the file is UTF-16; convert it to UTF-8 first", name));
  }
  return starts_with(bytes, "\xef\xbb\xbf") ? 3 : 0;
}

LineReader::LineReader(const std::string& path) : path_(input_name(path)), fd_(open_input(path)) {
  try {
    while (end_ < block_size && fill()) {
    }
    const std::string_view start(block_.data(), end_);
    begin_ = text_start(path_, start);
    const std::size_t cr = start.find('\r');
    if (cr < start.size() - 1 && start.find('\n') == start.npos) {
      throw InputError(fmt::format(
          "{}: lines end in CR alone; convert them to LF first (tr '\\r' '\\n')", path_));
    }
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

LineReader::~LineReader() { ::close(fd_); }

bool LineReader::fill() {
  if (at_end_) return false;
  if (begin_ > 0) {
    std::memmove(&block_[0], block_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (block_.size() < end_ + block_size) block_.resize(end_ + block_size);
  ssize_t got = -1;
  do {
    got = ::read(fd_, &block_[end_], block_.size() - end_);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    throw IoError(fmt::format("read: reading '{}' failed: {}", path_, std::strerror(errno)));
  }
  end_ += static_cast<std::size_t>(got);
  at_end_ = got == 0;
  return got > 0;
}

bool LineReader::next(std::string_view& line) {
  std::size_t searched = begin_;
  const void* found = nullptr;
  while ((found = std::memchr(block_.data() + searched, '\n', end_ - searched)) == nullptr) {
    const std::size_t pending = end_ - begin_;
    if (pending > block_size) {
      throw InputError(fmt::format("{}: line {} is longer than 1 MiB: this is not a table of text",
                                   path_, number_ + 1));
    }
    if (!fill()) break;
    searched = begin_ + pending;
  }
  if (found == nullptr && begin_ == end_) return false;
  const std::size_t stop =
      found != nullptr ? static_cast<std::size_t>(static_cast<const char*>(found) - block_.data())
                       : end_;
  line = std::string_view(block_.data() + begin_, stop - begin_);
  begin_ = found != nullptr ? stop + 1 : stop;
  ++number_;
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  check_no_nul(path_, line, number_);
  return true;
}

std::vector<std::string> LineReader::first_lines(std::size_t count) const {
  std::vector<std::string> lines;
  std::size_t at = begin_;
  while (lines.size() < count && at < end_) {
    std::size_t stop = block_.find('\n', at);
    if (stop == std::string::npos || stop >= end_) {
      if (!at_end_ && !lines.empty()) break;  // the block ends within a line
      stop = end_;
    }
    std::string line = block_.substr(at, stop - at);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!is_blank(line)) lines.push_back(std::move(line));
    at = stop + 1;
  }
  return lines;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\v\f") == std::string_view::npos;
}

std::string_view FieldSplitter::trim(std::string_view field) const {
  const auto blank = [this](char c) { return c == ' ' || (c == '\t' && delimiter_ != "\t"); };
  while (!field.empty() && blank(field.front())) field.remove_prefix(1);
  while (!field.empty() && blank(field.back())) field.remove_suffix(1);
  return field;
}

const char* FieldSplitter::split(std::string_view line, std::vector<std::string_view>& fields) {
  fields.clear();
  if (line.find('"') != std::string_view::npos) return split_quoted(line, fields);
  if (delimiter_ == " ") {
    std::size_t at = line.find_first_not_of(" \t");
    while (at != std::string_view::npos) {
      const std::size_t stop = std::min(line.find_first_of(" \t", at), line.size());
      fields.push_back(line.substr(at, stop - at));
      at = line.find_first_not_of(" \t", stop);
    }
    return "";
  }
  const char* at = line.data();
  const char* const end = at + line.size();
  for (;;) {
    const char* stop = end;
    if (delimiter_.size() == 1) {
      const void* found = std::memchr(at, delimiter_[0], static_cast<std::size_t>(end - at));
      if (found != nullptr) stop = static_cast<const char*>(found);
    } else {
      stop = std::search(at, end, delimiter_.begin(), delimiter_.end());
    }
    fields.push_back(trim(std::string_view(at, static_cast<std::size_t>(stop - at))));
    if (stop == end) return "";
    at = stop + delimiter_.size();
  }
}

// A field that begins with a quote ends at the next quote that is not doubled, as in RFC 4180; a
// quote elsewhere is a character like others.
const char* FieldSplitter::split_quoted(std::string_view line,
                                        std::vector<std::string_view>& fields) {
  const bool blanks = delimiter_ == " ";
  // Unquoted text is never longer than the line, so that views into it stay valid.
  unquoted_.clear();
  unquoted_.reserve(line.size());
  std::size_t at = 0;
  for (;;) {
    const std::size_t first = line.find_first_not_of(delimiter_ == "\t" ? " " : " \t", at);
    if (blanks && first == std::string_view::npos) return "";
    if (first != std::string_view::npos && line[first] == '"') {
      const std::size_t begin = unquoted_.size();
      std::size_t i = first + 1;
      for (;; ++i) {
        if (i >= line.size()) return "a quote is not closed";
        if (line[i] != '"') {
          unquoted_ += line[i];
        } else if (i + 1 < line.size() && line[i + 1] == '"') {
          unquoted_ += '"';
          ++i;
        } else {
          break;
        }
      }
      fields.push_back(std::string_view(unquoted_).substr(begin));
      const std::size_t after = line.find_first_not_of(delimiter_ == "\t" ? " " : " \t", i + 1);
      if (after == std::string_view::npos) return "";
      if (blanks) {
        if (after == i + 1) return "text follows a closing quote";
        at = after;
      } else {
        if (!starts_with(line.substr(after), delimiter_)) return "text follows a closing quote";
        at = after + delimiter_.size();
      }
      continue;
    }
    if (blanks) {
      const std::size_t stop = std::min(line.find_first_of(" \t", first), line.size());
      fields.push_back(line.substr(first, stop - first));
      at = stop;
      continue;
    }
    const std::size_t stop = line.find(delimiter_, at);
    if (stop == std::string_view::npos) {
      fields.push_back(trim(line.substr(at)));
      return "";
    }
    fields.push_back(trim(line.substr(at, stop - at)));
    at = stop + delimiter_.size();
  }
}

Dialect find_dialect(const std::vector<std::string>& lines, const std::string& delimiter,
                     std::size_t least) {
  // Blanks last: names hold them.
  std::vector<std::string> candidates = {"\t", "::", ";", "|", ",", " "};
  if (!delimiter.empty()) candidates = {delimiter};
  Dialect best;
  struct Votes {
    std::size_t lines = 0, numbers = 0;
    std::ptrdiff_t before = 0;  // bytes before the delimiter, negative: fewer are better
    bool operator>(const Votes& other) const {
      return std::tie(lines, numbers, before) > std::tie(other.lines, other.numbers, other.before);
    }
  };
  Votes best_votes;
  std::vector<std::string_view> fields;
  for (const std::string& candidate : candidates) {
    FieldSplitter splitter(candidate);
    std::map<std::size_t, Votes> votes;
    for (const std::string& line : lines) {
      if (*splitter.split(line, fields) != '\0') continue;
      Votes& of = votes[fields.size()];
      double value = 0;
      ++of.lines;
      if (fields.size() > 2 && parse_number(fields[2], value)) ++of.numbers;
      of.before -= static_cast<std::ptrdiff_t>(fields[0].size());
    }
    for (const auto& [count, votes_for] : votes) {
      if (count >= least && (best_votes.lines == 0 || votes_for > best_votes)) {
        best = {candidate, count, votes_for.lines == lines.size()};
        best_votes = votes_for;
      }
    }
  }
  return best;
}

std::string delimiter_name(const std::string& delimiter) {
  static const std::array<std::pair<const char*, const char*>, 6> names = {{{"\t", "tab"},
                                                                            {",", "comma"},
                                                                            {";", "semicolon"},
                                                                            {"|", "bar"},
                                                                            {" ", "blanks"},
                                                                            {"::", "'::'"}}};
  for (const auto& [text, name] : names) {
    if (delimiter == text) return name;
  }
  return "'" + printable(delimiter) + "'";
}

}  // namespace parsimony::detail
