// Tables as CSV (RFC 4180): numbers that read back to the same bits, with '.' in every locale.
#pragma once

#include <parsimony/files.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace parsimony {

/// Shortest spelling that all tools agree on: 17 significant digits for double, 9 for float; nan,
/// inf and -inf for what is not finite.
std::string format_number(double value);
std::string format_number(float value);

/// One field of a line: a number or a text, quoted where RFC 4180 asks for it.
class CsvCell {
 public:
  CsvCell(double value) : text_(format_number(value)) {}
  CsvCell(float value) : text_(format_number(value)) {}
  template <class I, std::enable_if_t<std::is_integral_v<I>, int> = 0>
  CsvCell(I value) : text_(std::to_string(value)) {}
  CsvCell(std::string_view text);
  CsvCell(const std::string& text) : CsvCell(std::string_view(text)) {}
  CsvCell(const char* text) : CsvCell(std::string_view(text)) {}

  /// As it stands in the file.
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// The cells joined by commas, with the newline.
std::string csv_line(const std::vector<CsvCell>& cells);

/// Writes a table that appears under its name when `finish` is called, whole or not at all.
class CsvWriter {
 public:
  /// @throws IoError if the folder is not writable; ValueError on no columns or equal names.
  CsvWriter(const std::string& path, const std::vector<std::string>& columns);
  /// @throws ValueError if the number of cells differs from the columns'; IoError.
  void row(const std::vector<CsvCell>& cells);
  void finish() { file_.commit(); }

 private:
  std::string path_;
  std::size_t columns_;
  AtomicFile file_;
};

/// A table as text, by column.
class CsvTable {
 public:
  const std::vector<std::string>& columns() const { return columns_; }
  std::size_t rows() const { return lines_.size(); }
  bool has(const std::string& column) const { return index_.count(column) > 0; }
  /// @throws InputError naming file and column if it is missing.
  const std::vector<std::string>& strings(const std::string& column) const;
  /// The column as numbers (nan and inf allowed). @throws InputError naming file and line of the
  /// first field that is none.
  std::vector<double> numbers(const std::string& column) const;
  /// Line of the file where a row begins, from 1.
  std::size_t line(std::size_t row) const { return lines_.at(row); }

 private:
  friend CsvTable parse_csv(const std::string& name, std::string_view text);
  std::string name_;
  std::vector<std::string> columns_;
  std::map<std::string, std::size_t> index_;
  std::vector<std::vector<std::string>> values_;
  std::vector<std::size_t> lines_;
};

/// Reads a table whose first line names the columns. Lines may end in CRLF; blank lines do not
/// count; a UTF-8 byte order mark is skipped. @throws InputError naming file and line on an empty
/// file, equal column names, a wrong number of fields, an open quote, text after a quote or NUL.
CsvTable read_csv(const std::string& path);
/// The same on text at hand; `name` stands for the file in messages.
CsvTable parse_csv(const std::string& name, std::string_view text);

}  // namespace parsimony
