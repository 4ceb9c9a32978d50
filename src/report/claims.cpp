// claims.json and the table of claims on the terminal.
#include <parsimony/claims.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <algorithm>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "report/text.hpp"

namespace parsimony {
namespace {

using Json = nlohmann::ordered_json;

constexpr int gap = 2;  // blanks between columns
constexpr int narrow = 60;

const char* ansi(Claim::Verdict verdict) {
  switch (verdict) {
    case Claim::holds:
      return "\033[32m";
    case Claim::fails:
      return "\033[1;31m";
    case Claim::not_run:
      break;
  }
  return "\033[33m";
}

std::string painted(const std::string& text, Claim::Verdict verdict, bool color) {
  return color ? ansi(verdict) + text + "\033[0m" : text;
}

std::string padded(const std::string& text, int width) {
  const int missing = width - text::display_width(text);
  return text + std::string(static_cast<std::size_t>(std::max(missing, 0)), ' ');
}

std::string text_of(const Json& entry, const char* key, bool required, const std::string& where) {
  const auto it = entry.find(key);
  if (it == entry.end()) {
    if (required) throw InputError(fmt::format("{}: \"{}\" is missing", where, key));
    return "";
  }
  if (it->is_string()) return it->get<std::string>();
  if (it->is_number() || it->is_boolean()) return it->dump();
  if (it->is_null() && !required) return "";
  throw InputError(fmt::format("{}: \"{}\" must be a text; got {}", where, key, it->type_name()));
}

Claim::Verdict verdict_of(const std::string& word, const std::string& where) {
  for (const Claim::Verdict v : {Claim::holds, Claim::fails, Claim::not_run}) {
    if (word == verdict_word(v)) return v;
  }
  throw InputError(fmt::format(
      "{}: \"verdict\" must be \"holds\", \"fails\" or \"not run\"; got \"{}\"", where, word));
}

// One claim below the other, for terminals too narrow for columns.
std::string paragraphs(const std::vector<Claim>& claims, int width, bool color, bool criteria) {
  std::string out;
  for (const Claim& c : claims) {
    out += text::clean(c.id) + "  " + painted(verdict_word(c.verdict), c.verdict, color) + "\n";
    const auto add = [&](const char* name, const std::string& value) {
      if (value.empty()) return;
      for (const std::string& line : text::wrap(name + value, width - 2)) out += "  " + line + "\n";
    };
    add("", c.statement);
    if (criteria) {
      add("criterion: ", c.criterion);
      add("source: ", c.source);
    }
    add("expected: ", c.expected);
    add("measured: ", c.measured);
  }
  return out;
}

struct Column {
  std::string head;
  std::string Claim::*field = nullptr;  // null: the verdict
  int least = 0;                        // width it should not fall below
  int natural = 0;                      // width at which nothing wraps
  int width = 0;

  std::string text(const Claim& c) const {
    return field == nullptr ? verdict_word(c.verdict) : text::clean(c.*field);
  }
};

Column make_column(const std::string& head, const std::vector<Claim>& claims,
                   std::string Claim::*field) {
  Column column{head, field};
  column.natural = text::display_width(head);
  for (const Claim& c : claims) {
    column.natural = std::max(column.natural, text::display_width(column.text(c)));
  }
  column.least = std::min(column.natural, 10);
  return column;
}

// Every column gets its least width; what is left goes, column by column, to whichever lies
// furthest below its natural width in proportion.
void share_width(std::vector<Column>& columns, int available) {
  int left = available - gap * static_cast<int>(columns.size() - 1);
  for (Column& c : columns) {
    c.width = c.least;
    left -= c.least;
  }
  while (left > 0) {
    Column* neediest = nullptr;
    for (Column& c : columns) {
      if (c.width >= c.natural) continue;
      if (neediest == nullptr || c.width * neediest->natural < neediest->width * c.natural) {
        neediest = &c;
      }
    }
    if (neediest == nullptr) return;
    ++neediest->width;
    --left;
  }
}

}  // namespace

const char* verdict_word(Claim::Verdict verdict) {
  switch (verdict) {
    case Claim::holds:
      return "holds";
    case Claim::fails:
      return "fails";
    case Claim::not_run:
      break;
  }
  return "not run";
}

ClaimCounts count_claims(const std::vector<Claim>& claims) {
  ClaimCounts counts;
  for (const Claim& c : claims) {
    ++(c.verdict == Claim::holds   ? counts.holds
       : c.verdict == Claim::fails ? counts.fails
                                   : counts.not_run);
  }
  return counts;
}

void write_claims(const std::string& path, const std::vector<Claim>& claims) {
  Json list = Json::array();
  for (const Claim& c : claims) {
    list.push_back({{"id", c.id},
                    {"statement", c.statement},
                    {"source", c.source},
                    {"criterion", c.criterion},
                    {"expected", c.expected},
                    {"measured", c.measured},
                    {"verdict", verdict_word(c.verdict)}});
  }
  write_file_atomically(path, list.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::vector<Claim> read_claims(const std::string& path) {
  const std::string bytes = read_file(path);
  Json list;
  try {
    list = Json::parse(bytes);
  } catch (const Json::exception& e) {
    throw InputError(fmt::format("{}: not JSON: {}", path, text::json_message(e.what())));
  }
  if (!list.is_array()) {
    throw InputError(
        fmt::format("{}: expected an array of claims; got {}", path, list.type_name()));
  }
  std::vector<Claim> claims;
  for (const Json& entry : list) {
    const std::string where = fmt::format("{}: claim {}", path, claims.size() + 1);
    if (!entry.is_object()) {
      throw InputError(fmt::format("{}: expected an object; got {}", where, entry.type_name()));
    }
    Claim c;
    c.id = text_of(entry, "id", true, where);
    c.statement = text_of(entry, "statement", true, where);
    c.source = text_of(entry, "source", false, where);
    c.criterion = text_of(entry, "criterion", false, where);
    c.expected = text_of(entry, "expected", false, where);
    c.measured = text_of(entry, "measured", false, where);
    c.verdict = verdict_of(text_of(entry, "verdict", true, where), where);
    claims.push_back(std::move(c));
  }
  return claims;
}

std::string claims_table(const std::vector<Claim>& claims, int width, bool color, bool criteria) {
  if (claims.empty()) return "no claims\n";
  const ClaimCounts counts = count_claims(claims);
  width = std::max(width, 20);
  const std::string counted =
      fmt::format("{} {}, {} {}, {} not run", counts.holds, counts.holds == 1 ? "holds" : "hold",
                  counts.fails, counts.fails == 1 ? "fails" : "fail", counts.not_run);
  std::string summary;
  for (const std::string& line : text::wrap(counted, width)) summary += line + "\n";
  if (width < (criteria ? narrow + 40 : narrow)) {
    return paragraphs(claims, width, color, criteria) + summary;
  }

  std::vector<Column> columns = {make_column("id", claims, &Claim::id),
                                 make_column("verdict", claims, nullptr),
                                 make_column("claim", claims, &Claim::statement)};
  if (criteria) {
    columns.push_back(make_column("criterion", claims, &Claim::criterion));
    columns.push_back(make_column("source", claims, &Claim::source));
  }
  columns.push_back(make_column("expected", claims, &Claim::expected));
  columns.push_back(make_column("measured", claims, &Claim::measured));
  share_width(columns, width);

  const auto trimmed = [](std::string line) {
    line.erase(line.find_last_not_of(' ') + 1);
    return line + "\n";
  };
  std::string line;
  std::string rule;
  for (const Column& c : columns) {
    line += padded(c.head, c.width + gap);
    for (int i = 0; i < c.width; ++i) rule += "─";
    rule += std::string(gap, ' ');
  }
  std::string out = trimmed(line) + trimmed(rule);
  for (const Claim& claim : claims) {
    std::vector<std::vector<std::string>> cells;
    std::size_t height = 1;
    for (const Column& c : columns) {
      cells.push_back(text::wrap(c.text(claim), c.width));
      height = std::max(height, cells.back().size());
    }
    for (std::size_t i = 0; i < height; ++i) {
      line.clear();
      for (std::size_t k = 0; k < columns.size(); ++k) {
        const std::string cell = i < cells[k].size() ? cells[k][i] : "";
        const std::string full = padded(cell, columns[k].width + gap);
        // Coloured after padding, so that the escapes do not count as width.
        const bool verdict = columns[k].field == nullptr && i == 0;
        line += verdict ? painted(cell, claim.verdict, color) + full.substr(cell.size()) : full;
      }
      out += trimmed(line);
    }
  }
  return out + trimmed(rule) + summary;
}

}  // namespace parsimony
