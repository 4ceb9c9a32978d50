// CSV by the grammar of RFC 4180. Numbers go through fmt and std::from_chars, which know no locale.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include <fmt/format.h>

namespace parsimony {

namespace {

std::string spell(double value, int digits) {
  if (std::isnan(value)) return "nan";  // fmt would write the sign of a NaN
  return fmt::format("{:.{}g}", value, digits);
}

/// Splits text into fields, line by line.
class CsvScanner {
 public:
  CsvScanner(const std::string& name, std::string_view text) : name_(name), text_(text) {
    if (text_.substr(0, 3) == "\xEF\xBB\xBF") at_ = 3;
    const std::size_t nul = text_.find('\0');
    if (nul == std::string_view::npos) return;
    for (std::size_t i = 0; i < nul; ++i) line_ += text_[i] == '\n' ? 1 : 0;
    fail("a NUL byte; is this a text file?");
  }

  /// The next line that is not blank; false at the end. `line()` is where it began.
  bool next(std::vector<std::string>& fields) {
    while (at_ < text_.size() && end_of_line()) {
    }
    if (at_ >= text_.size()) return false;
    start_ = line_;
    fields.clear();
    do {
      fields.emplace_back();
      at_ < text_.size() && text_[at_] == '"' ? quoted(fields.back()) : plain(fields.back());
    } while (comma());
    if (at_ < text_.size() && !end_of_line()) fail("text after a closing quote");
    return true;
  }

  std::size_t line() const { return start_; }

  [[noreturn]] void fail(const std::string& reason) const {
    throw InputError(fmt::format("csv: '{}', line {}: {}", name_, line_, reason));
  }

 private:
  bool end_of_line() {
    const std::size_t rest = text_.size() - at_;
    if (text_[at_] == '\r' && (rest == 1 || text_[at_ + 1] == '\n')) ++at_;
    if (at_ == text_.size()) return true;
    if (text_[at_] != '\n') return false;
    ++at_;
    ++line_;
    return true;
  }
  bool comma() {
    if (at_ >= text_.size() || text_[at_] != ',') return false;
    ++at_;
    return true;
  }
  void plain(std::string& field) {
    std::size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
    // The carriage return of a CRLF belongs to the line's end.
    const bool last = end == text_.size() || text_[end] == '\n';
    if (last && end > at_ && text_[end - 1] == '\r') --end;
    field = text_.substr(at_, end - at_);
    if (field.find('"') != std::string::npos) fail("a quote inside a field that is not quoted");
    at_ = end;
  }
  void quoted(std::string& field) {
    const std::size_t opened = line_;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        ++at_;
        if (at_ >= text_.size() || text_[at_] != '"') return;
      } else if (text_[at_] == '\n') {
        ++line_;
      }
      field += text_[at_];
    }
    line_ = opened;
    fail("a quote is never closed");
  }

  const std::string& name_;
  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  std::size_t start_ = 1;
};

}  // namespace

std::string format_number(double value) { return spell(value, 17); }
std::string format_number(float value) { return spell(static_cast<double>(value), 9); }

CsvCell::CsvCell(std::string_view text) : text_(text) {
  // An empty field is quoted too, so that a line of one empty field is not a blank line.
  const bool plain = !text.empty() && text.find_first_of(",\"\r\n") == std::string_view::npos &&
                     text.front() != ' ' && text.back() != ' ';
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
  CsvScanner scanner(table.name_, text);
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
