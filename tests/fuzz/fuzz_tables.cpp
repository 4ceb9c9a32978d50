// Any bytes as a table of texts, of each kind. The first byte chooses the kind and the settings.
// What was read is written out again, as CSV and as JSON lines, and must read back the same.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/text_table.hpp>

#include <algorithm>

#include "fuzz/targets.hpp"

namespace parsimony::fuzz {

namespace {

using Kind = TextFormat::Kind;
using Header = TextFormat::Header;

TextFormat format_of(std::uint8_t choice) {
  constexpr Kind kinds[] = {Kind::tsv, Kind::csv, Kind::jsonl, Kind::detect};
  constexpr Header headers[] = {Header::detect, Header::yes, Header::no, Header::detect};
  TextFormat format;
  format.kind = kinds[choice & 3];
  format.header = headers[choice >> 2 & 3];
  format.extra_columns = (choice & 16) != 0;
  format.keep_blank_lines = (choice & 32) != 0;
  switch (choice >> 6) {
    case 1:
      format.columns = {"1"};
      break;
    case 2:
      format.columns = {"2", "1"};
      break;
    case 3:
      format.columns = {"text", "label"};
      break;
    default:
      break;
  }
  return format;
}

void check(const TextTable& table, const TextFormat& format) {
  require(table.size() > 0, "a table has rows");
  require(table.rows.size() == table.lines.size(), "every row has its line");
  require(!table.columns.empty(), "a table has columns");
  require(format.columns.empty() || table.columns.size() == format.columns.size(),
          "the columns are those that were asked for");
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    require(table.lines[i] > (i > 0 ? table.lines[i - 1] : 0), "lines ascend");
    require(table.rows[i].size() == table.columns.size(), "rows have one length");
    for (const std::string& field : table.rows[i]) {
      require(find_invalid_utf8(field) == std::string::npos, "fields are UTF-8");
      require(field.find('\0') == std::string::npos, "fields hold no NUL");
    }
  }
}

void write_and_read(const TextTable& table) {
  // The mark keeps a first field from being taken for one, or for a compressed file.
  std::string csv = "\xef\xbb\xbf";
  std::string json;
  for (const auto& row : table.rows) {
    csv += csv_line(std::vector<CsvCell>(row.begin(), row.end()));
    for (std::size_t k = 0; k < row.size(); ++k) {
      json += (k == 0 ? "{" : ",") + json_quote("k" + std::to_string(k)) + ":" + json_quote(row[k]);
    }
    json += "}\n";
  }
  TextFormat format;
  format.header = Header::no;
  require(parse_text_table("again.csv", csv, format).rows == table.rows, "CSV reads back");
  require(parse_text_table("again.jsonl", json).rows == table.rows, "JSON lines read back");
}

}  // namespace

void tables(Input input) {
  const TextFormat format = format_of(take_byte(input));
  TextTable table;
  try {
    table = parse_text_table("input", as_text(input), format);
  } catch (const InputError&) {
    return;  // most inputs
  } catch (const ValueError&) {
    require(format.header != Header::detect || !format.columns.empty(),
            "only a format can contradict itself");
    return;
  }
  check(table, format);
  write_and_read(table);
}

}  // namespace parsimony::fuzz
