// Splits a CSV text (RFC 4180) into fields, line by line: a quoted field may hold commas, doubled
// quotes and newlines. What both readers of CSV, of numbers and of texts, stand on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace parsimony::detail {

/// Keeps views of `name` and `text`, which must outlive it.
class CsvScanner {
 public:
  /// `text` begins behind a byte order mark. @throws InputError on a NUL byte, with its line.
  CsvScanner(const std::string& name, std::string_view text);

  /// The next line that is not blank; false at the end. `line()` is where it began.
  /// @throws InputError on a quote that is never closed (the line where it opened), on text after a
  /// closing quote and on a quote inside a field that is not quoted.
  bool next(std::vector<std::string>& fields);

  std::size_t line() const { return start_; }

  /// @throws InputError with `reason` at the line that is being read.
  [[noreturn]] void fail(const std::string& reason) const;

 private:
  bool end_of_line();
  bool comma();
  void plain(std::string& field);
  void quoted(std::string& field);

  const std::string& name_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t start_ = 1;
};

}  // namespace parsimony::detail
