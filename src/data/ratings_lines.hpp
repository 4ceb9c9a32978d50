// Lines and fields of a text table: a reader of lines that holds one block of the file, a splitter
// that knows CSV quotes, and the choice of the delimiter from the first lines.
#pragma once

#include <parsimony/tensor.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace parsimony::detail {

/// Where the text of a file begins: behind a UTF-8 byte order mark, if there is one.
/// @throws InputError if it is empty, compressed, or UTF-16.
std::size_t text_start(const std::string& name, std::string_view bytes);

/// Lines of a file or, for "-", of the standard input, one after the other, without their line
/// ends; never more than a block and a line in memory.
class LineReader {
 public:
  /// @throws InputError if the file is missing, a folder, empty, compressed, or UTF-16.
  explicit LineReader(const std::string& path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// The path, or "standard input".
  const std::string& name() const { return path_; }
  /// The next line, valid until the next call; false at the end of the file.
  /// @throws InputError on a NUL byte or an endless line, IoError if reading fails.
  bool next(std::string_view& line);
  /// 1-based number of the line that next() returned last.
  index_t number() const { return number_; }
  /// The first lines, up to `count` that are not blank, as far as the first block holds them.
  std::vector<std::string> first_lines(std::size_t count) const;

 private:
  bool fill();

  std::string path_;
  int fd_ = -1;
  std::string block_;
  std::size_t begin_ = 0, end_ = 0;  // the part of block_ that was not handed out
  bool at_end_ = false;
  index_t number_ = 0;
};

/// True if the line has nothing but blanks.
bool is_blank(std::string_view line);

/// Splits lines at one delimiter.
class FieldSplitter {
 public:
  explicit FieldSplitter(std::string delimiter) : delimiter_(std::move(delimiter)) {}

  /// The fields of a line, blanks around them removed and quotes resolved; views into the line or
  /// into this object. Returns a complaint, or "" if all is well.
  const char* split(std::string_view line, std::vector<std::string_view>& fields);

 private:
  const char* split_quoted(std::string_view line, std::vector<std::string_view>& fields);
  std::string_view trim(std::string_view field) const;

  std::string delimiter_;
  std::string unquoted_;
};

/// Delimiter and usual count of fields of some lines, with at least `least` fields.
struct Dialect {
  std::string delimiter;
  std::size_t fields = 0;
  bool all = false;  ///< lines have so many
};
/// A given delimiter ("" = choose) with the count of fields most lines have; fields = 0 if no
/// delimiter gives enough of them. Of delimiters that split as many lines alike, the one whose
/// third fields are more often numbers, or the one that comes first in the lines.
Dialect find_dialect(const std::vector<std::string>& lines, const std::string& delimiter,
                     std::size_t least);

/// "tab", "comma", ... for a message.
std::string delimiter_name(const std::string& delimiter);

}  // namespace parsimony::detail
