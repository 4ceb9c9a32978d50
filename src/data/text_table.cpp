// Tables of texts, see the header: what holds for all kinds, then TSV and CSV, which differ only in
// how a row is cut into fields.
#include <parsimony/text_table.hpp>

#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cctype>
#include <numeric>

#include <fmt/format.h>

#include "data/ratings_lines.hpp"
#include "data/text_table_parts.hpp"
#include "io/csv_scanner.hpp"
#include "io/plain_word.hpp"

namespace parsimony {

namespace {

using Kind = TextFormat::Kind;
using Header = TextFormat::Header;

/// In lower or upper case.
bool has_extension(const std::string& name, std::string_view end) {
  if (name.size() < end.size()) return false;
  return std::equal(end.rbegin(), end.rend(), name.rbegin(), [](char a, char b) {
    return a == std::tolower(static_cast<unsigned char>(b));
  });
}

Kind kind_of(const std::string& name, Kind kind) {
  if (kind != Kind::detect) return kind;
  if (has_extension(name, ".csv")) return Kind::csv;
  for (const char* end : {".jsonl", ".ndjson", ".json"}) {
    if (has_extension(name, end)) return Kind::jsonl;
  }
  return Kind::tsv;
}

/// The text without a byte order mark, after what no kind of table may hold.
std::string_view checked_text(const std::string& name, std::string_view bytes) {
  const std::string_view text = bytes.substr(detail::text_start(name, bytes));
  check_text(name, text);
  return text;
}

/// Rows of fields from TSV.
class TsvRows {
 public:
  TsvRows(std::string_view text, bool keep_blank) : text_(text), keep_blank_(keep_blank) {}

  bool next(std::vector<std::string>& fields) {
    std::string_view line;
    do {
      if (!detail::next_line(text_, line)) return false;
      ++number_;
    } while (line.empty() && !keep_blank_);
    fields.clear();
    if (line.empty()) return true;
    for (std::size_t at = 0;;) {
      const std::size_t stop = line.find('\t', at);
      fields.emplace_back(line.substr(at, stop - at));
      if (stop == std::string_view::npos) return true;
      at = stop + 1;
    }
  }
  index_t line() const { return number_; }

 private:
  std::string_view text_;
  bool keep_blank_;
  index_t number_ = 0;
};

/// Rows of fields from CSV.
class CsvRows {
 public:
  CsvRows(const std::string& name, std::string_view text) : scanner_(name, text) {}
  bool next(std::vector<std::string>& fields) { return scanner_.next(fields); }
  index_t line() const { return static_cast<index_t>(scanner_.line()); }

 private:
  detail::CsvScanner scanner_;
};

bool looks_like_header(const std::vector<std::string>& fields) {
  bool all = true;
  for (const std::string& field : fields) {
    const TextColumn column = usual_text_column(field);
    if (column == TextColumn::label) return true;
    all = all && column != TextColumn::unknown;
  }
  return all;
}

bool has_header(const TextFormat& format, const std::vector<std::string>& first) {
  if (format.header != Header::detect) return format.header == Header::yes;
  const bool by_name = std::any_of(format.columns.begin(), format.columns.end(),
                                   [](const auto& c) { return !detail::is_column_number(c); });
  return by_name || looks_like_header(first);
}

[[noreturn]] void wrong_count(const TextTable& table, index_t line, std::size_t expected,
                              bool at_least, const std::vector<std::string>& fields,
                              index_t first_line) {
  const bool tabs = fields.size() == 1 && fields[0].find('\t') != std::string::npos;
  throw InputError(fmt::format("{}, line {}: expected {}{} column{} as in line {}; found {}{}",
                               table.file, line, at_least ? "at least " : "", expected,
                               expected == 1 ? "" : "s", first_line, fields.size(),
                               tabs ? "; there are tabs in it: is it TSV?" : ""));
}

template <class Rows>
void read_rows(Rows rows, const TextFormat& format, TextTable& table) {
  std::vector<std::string> fields;
  std::vector<index_t> blank;  // lines before the first that says how many columns there are
  bool found = rows.next(fields);
  for (; found && fields.empty(); found = rows.next(fields)) blank.push_back(rows.line());
  if (!found) {
    throw InputError(fmt::format("{}: the file has only blank lines", table.file));
  }
  const index_t first_line = rows.line();
  const std::size_t count = fields.size();
  table.has_names = has_header(format, fields);
  std::vector<std::string> names;
  if (table.has_names) names = fields;
  const std::vector<std::size_t> chosen =
      detail::choose_columns(table.file, format.columns, names, count);
  for (const std::size_t c : chosen) {
    table.columns.push_back(table.has_names ? names[c] : std::to_string(c + 1));
  }
  std::size_t needed = count;
  if (format.extra_columns && !chosen.empty()) {
    needed = 1 + *std::max_element(chosen.begin(), chosen.end());
  }
  if (table.has_names) {
    if (!rows.next(fields)) return;
  } else {
    table.rows.assign(blank.size(), std::vector<std::string>(chosen.size()));
    table.lines = std::move(blank);
  }
  do {
    if (fields.empty()) fields.resize(needed);  // a blank line that is kept
    if (format.extra_columns ? fields.size() < needed : fields.size() != needed) {
      wrong_count(table, rows.line(), needed, format.extra_columns, fields, first_line);
    }
    std::vector<std::string> row;
    row.reserve(chosen.size());
    for (const std::size_t c : chosen) row.push_back(fields[c]);
    table.rows.push_back(std::move(row));
    table.lines.push_back(rows.line());
  } while (rows.next(fields));
}

void check_format(const TextFormat& format) {
  for (const std::string& column : format.columns) {
    if (column.empty() || (detail::is_column_number(column) && std::stoul(column) == 0)) {
      throw ValueError("text table: columns are names of the header, or numbers from 1");
    }
    if (format.header == Header::no && !detail::is_column_number(column)) {
      throw ValueError(fmt::format(
          "text table: column '{}' is a name, but there is to be no header", printable(column)));
    }
  }
}

}  // namespace

namespace detail {

bool is_column_number(const std::string& wanted) {
  return !wanted.empty() && wanted.size() < 10 &&
         std::all_of(wanted.begin(), wanted.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool next_line(std::string_view& text, std::string_view& line) {
  if (text.empty()) return false;
  const std::size_t stop = text.find('\n');
  line = text.substr(0, stop);
  text.remove_prefix(stop == std::string_view::npos ? text.size() : stop + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return true;
}

std::vector<std::size_t> choose_columns(const std::string& file,
                                        const std::vector<std::string>& wanted,
                                        const std::vector<std::string>& names, std::size_t count) {
  std::vector<std::size_t> chosen;
  if (wanted.empty()) {
    chosen.resize(count);
    std::iota(chosen.begin(), chosen.end(), std::size_t{0});
    return chosen;
  }
  for (const std::string& column : wanted) {
    std::size_t at = 0;
    if (is_column_number(column)) {
      at = std::stoul(column) - 1;
      if (at >= count) {
        throw InputError(fmt::format("{}: there is no column {}; there {} {}", file, column,
                                     count == 1 ? "is" : "are", count));
      }
    } else {
      const auto found = std::find(names.begin(), names.end(), column);
      if (found == names.end()) {
        const std::string near = nearest_name(column, names);
        std::vector<std::string> shown;
        shown.reserve(names.size());
        for (const std::string& name : names) shown.push_back(printable(name));
        if (shown.size() > 20) shown.resize(20);
        throw InputError(
            fmt::format("{}: there is no column '{}'{}; there are: {}", file, printable(column),
                        near.empty() ? "" : fmt::format(", did you mean '{}'?", printable(near)),
                        fmt::join(shown, ", ")));
      }
      if (std::find(found + 1, names.end(), column) != names.end()) {
        throw InputError(fmt::format("{}: two columns are named '{}'; choose by number", file,
                                     printable(column)));
      }
      at = static_cast<std::size_t>(found - names.begin());
    }
    if (std::find(chosen.begin(), chosen.end(), at) != chosen.end()) {
      throw ValueError(fmt::format("text table: column '{}' is given twice", printable(column)));
    }
    chosen.push_back(at);
  }
  return chosen;
}

}  // namespace detail

std::string TextTable::where(std::size_t row) const {
  return fmt::format("{}, line {}", file, lines.at(row));
}

TextColumn usual_text_column(std::string_view name) {
  using Names = std::vector<std::string>;
  static const Names labels = {"label",
                               "labels",
                               "score",
                               "scores",
                               "class",
                               "category",
                               "target",
                               "gold",
                               "goldlabel",
                               "quality",
                               "rating",
                               "sentiment",
                               "stars",
                               "similarity",
                               "relatedness",
                               "relatednessscore",
                               "entailmentjudgment"};
  static const Names texts = {
      "text",      "texts",     "texta",     "textb",     "text1",     "text2",    "sentence",
      "sentences", "sentencea", "sentenceb", "sentence1", "sentence2", "premise",  "hypothesis",
      "question",  "question1", "question2", "answer",    "first",     "second",   "1string",
      "2string",   "review",    "content",   "query",     "passage",   "document", "title"};
  static const Names ids = {"id", "ids", "index", "idx", "uid", "guid", "1id", "2id", "pairid"};
  const std::string key = plain_word(name);
  const auto in = [&key](const Names& list) {
    return std::find(list.begin(), list.end(), key) != list.end();
  };
  if (in(labels)) return TextColumn::label;
  if (in(texts)) return TextColumn::text;
  return in(ids) ? TextColumn::id : TextColumn::unknown;
}

int usual_text_order(std::string_view name) {
  const std::string key = plain_word(name);
  const auto in = [&key](std::initializer_list<const char*> list) {
    return std::find(list.begin(), list.end(), key) != list.end();
  };
  if (in({"texta", "text1", "sentencea", "sentence1", "premise", "question", "question1", "first",
          "1string", "query"})) {
    return 1;
  }
  return in({"textb", "text2", "sentenceb", "sentence2", "hypothesis", "question2", "answer",
             "second", "2string", "passage", "document"})
             ? 2
             : 0;
}

TextTable parse_text_table(const std::string& name, std::string_view bytes,
                           const TextFormat& format) {
  check_format(format);
  TextTable table;
  table.file = name;
  const std::string_view text = checked_text(name, bytes);
  switch (kind_of(name, format.kind)) {
    case Kind::jsonl:
      detail::read_json_lines(text, format, table);
      break;
    case Kind::csv:
      read_rows(CsvRows(table.file, text), format, table);
      break;
    default:
      read_rows(TsvRows(text, format.keep_blank_lines), format, table);
  }
  if (table.rows.empty()) {
    throw InputError(fmt::format("{}: there is a header but no row below it", name));
  }
  return table;
}

TextTable read_text_table(const std::string& path, const TextFormat& format) {
  return parse_text_table(path, read_file(path), format);
}

}  // namespace parsimony
