// CSV by the grammar of RFC 4180. Numbers go through fmt and std::from_chars, which know no locale.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>

#include <charconv>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "io/csv_scanner.hpp"

namespace parsimony {

namespace {

std::string spell(double value, int digits) {
  if (std::isnan(value)) return "nan";  // fmt would write the sign of a NaN
  return fmt::format("{:.{}g}", value, digits);
}

}  // namespace

std::string format_number(double value) { return spell(value, 17); }
std::string format_number(float value) { return spell(static_cast<double>(value), 9); }

CsvCell::CsvCell(std::string_view text) : text_(text) {
  // An empty field is quoted too, so that a line of one empty field is not a blank line.
  const bool plain = !text.empty() && text.find_first_of(",\"\r\n") == std::string_view::npos &&
                     std::string_view(" \t").find(text.front()) == std::string_view::npos &&
                     std::string_view(" \t").find(text.back()) == std::string_view::npos;
  if (plain) return;
  text_ = '"';
  for (const char c : text) {
    if (c == '"') text_ += '"';
    text_ += c;
  }
  text_ += '"';
}

std::string csv_line(const std::vector<CsvCell>& cells) {
  std::string line;
  for (const CsvCell& cell : cells) {
    if (!line.empty()) line += ',';
    line += cell.text();
  }
  return line += '\n';
}

CsvWriter::CsvWriter(const std::string& path, const std::vector<std::string>& columns)
    : path_(path), columns_(columns.size()), file_(path) {
  if (columns.empty() || std::set<std::string>(columns.begin(), columns.end()).size() != columns_) {
    throw ValueError(fmt::format("csv: '{}': expected at least one column, all different", path));
  }
  file_.write(csv_line(std::vector<CsvCell>(columns.begin(), columns.end())));
}

void CsvWriter::row(const std::vector<CsvCell>& cells) {
  if (cells.size() != columns_) {
    throw ValueError(
        fmt::format("csv: '{}': expected {} fields; got {}", path_, columns_, cells.size()));
  }
  file_.write(csv_line(cells));
}

const std::vector<std::string>& CsvTable::strings(const std::string& column) const {
  const auto found = index_.find(column);
  if (found == index_.end()) {
    std::string names;
    for (const std::string& name : columns_) names += (names.empty() ? "" : ", ") + name;
    throw InputError(fmt::format("csv: '{}' has no column '{}'; it has {}", name_, column, names));
  }
  return values_[found->second];
}

std::vector<double> CsvTable::numbers(const std::string& column) const {
  const std::vector<std::string>& fields = strings(column);
  std::vector<double> out;
  out.reserve(fields.size());
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const std::string& field = fields[i];
    double value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || end != field.data() + field.size()) {
      throw InputError(fmt::format("csv: '{}', line {}: expected a number in column '{}'; got '{}'",
                                   name_, lines_[i], column, field));
    }
    out.push_back(value);
  }
  return out;
}

CsvTable read_csv(const std::string& path) { return parse_csv(path, read_file(path)); }

CsvTable parse_csv(const std::string& name, std::string_view text) {
  CsvTable table;
  table.name_ = name;
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  detail::CsvScanner scanner(table.name_, text);
  std::vector<std::string> fields;
  if (!scanner.next(table.columns_)) scanner.fail("the file is empty");
  const std::size_t columns = table.columns_.size();
  for (std::size_t i = 0; i < columns; ++i) {
    if (!table.index_.emplace(table.columns_[i], i).second) {
      throw InputError(fmt::format("csv: '{}', line {}: the column '{}' comes twice", name,
                                   scanner.line(), table.columns_[i]));
    }
  }
  table.values_.resize(columns);
  while (scanner.next(fields)) {
    if (fields.size() != columns) {
      throw InputError(fmt::format("csv: '{}', line {}: expected {} fields; got {}", name,
                                   scanner.line(), columns, fields.size()));
    }
    for (std::size_t i = 0; i < columns; ++i) table.values_[i].push_back(std::move(fields[i]));
    table.lines_.push_back(scanner.line());
  }
  return table;
}

}  // namespace parsimony
