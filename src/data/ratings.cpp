// Reading tables of ratings and of pairs: the layout from the first lines, then one pass that
// collects what is wrong with its line numbers, then a search for pairs given twice.
#include <parsimony/error.hpp>
#include <parsimony/ratings.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "data/ratings_lines.hpp"
#include "io/plain_word.hpp"

namespace parsimony {

namespace {

using detail::FieldSplitter;
using detail::LineReader;
using Fields = std::vector<std::string_view>;

constexpr std::size_t most_complaints = 10;
constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
// Squares of ratings and their sums must stay finite.
constexpr double largest_rating = 1e100;

bool is_number(std::string_view text) {
  double value = 0;
  return parse_number(text, value);
}

template <std::size_t n>
bool is_one_of(const std::array<const char*, n>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// What stands for a missing rating, or has no letter at all, names no column.
bool can_be_name(std::string_view text) {
  static const std::array<const char*, 7> missing = {"na",  "nan", "null",    "none",
                                                     "nil", "inf", "infinity"};
  const bool letter = std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x80 || std::isalpha(byte) != 0;
  });
  return letter && !is_one_of(missing, plain_word(text));
}

/// A column that is neither user nor item nor rating: that of times, or of row numbers.
bool is_set_aside(std::string_view name) {
  static const std::array<const char*, 5> times = {"timestamp", "time", "date", "datetime",
                                                   "unixreviewtime"};
  return name.empty() || is_one_of(times, plain_word(name));
}

/// 0, 1, 2 for a usual name of the user's, item's or rating's column, else -1.
int usual_role(std::string_view name) {
  static const std::array<std::vector<std::string>, 3> names = {{
      {"user", "users", "userid", "uid", "reviewer", "reviewerid", "customer", "customerid",
       "member", "memberid", "row"},
      {"item",    "items",     "itemid",   "iid",        "movie",  "movieid", "film",   "filmid",
       "product", "productid", "asin",     "book",       "bookid", "isbn",    "artist", "artistid",
       "song",    "songid",    "business", "businessid", "column", "col"},
      {"rating", "ratings", "score", "stars", "value", "overall", "bookrating"},
  }};
  const std::string key = plain_word(name);
  for (std::size_t role = 0; role < names.size(); ++role) {
    if (std::find(names[role].begin(), names[role].end(), key) != names[role].end()) {
      return static_cast<int>(role);
    }
  }
  return -1;
}

/// Which columns of which kind of file.
struct Layout {
  std::string delimiter;
  std::size_t fields = 0;
  bool header = false;
  std::array<std::size_t, 3> column = {0, 1, 2};  // of user, item, rating
  std::string description;
};

bool is_column_number(const std::string& text) {
  return !text.empty() && text.size() < 10 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Columns as the user asked for them; false if a name or number is not there and `strict` is off.
bool asked_columns(const std::string& path, const RatingsFormat& format, const Fields& first,
                   std::size_t roles, bool strict, Layout& layout) {
  std::array<std::size_t, 3> column = layout.column;
  for (std::size_t role = 0; role < roles; ++role) {
    const std::string& wanted = format.columns[role];
    std::size_t at = none;
    if (is_column_number(wanted)) {
      at = static_cast<std::size_t>(std::stoul(wanted)) - 1;
      if (at >= first.size()) {
        if (!strict) return false;
        throw InputError(fmt::format("{}: there is no column {}; the file has {} columns", path,
                                     wanted, first.size()));
      }
    } else {
      const auto found = std::find(first.begin(), first.end(), wanted);
      if (found == first.end()) {
        if (!strict) return false;
        std::vector<std::string> names;
        for (const auto& name : first) names.push_back(printable(name));
        throw InputError(fmt::format("{}: there is no column '{}' in the header; it has {}", path,
                                     printable(wanted), fmt::join(names, ", ")));
      }
      at = static_cast<std::size_t>(found - first.begin());
    }
    column[role] = at;
  }
  layout.column = column;
  return true;
}

/// Names that say user, item or rating of a plain matrix, and something else beside better ones.
bool is_weak_name(std::string_view name) {
  static const std::array<const char*, 4> weak = {"row", "column", "col", "value"};
  return is_one_of(weak, plain_word(name));
}

/// Columns by the usual names of a header. A role without one takes the column that is left; where
/// no role has a name, they are the first columns. @throws RatingsError if that does not settle it,
/// or if two columns have names of one role.
void usual_columns(const std::string& path, const Fields& header, std::size_t roles,
                   Layout& layout) {
  static const std::array<const char*, 3> called = {"user", "item", "rating"};
  std::array<std::size_t, 3> column = {none, none, none};
  std::vector<std::size_t> left;
  bool any = false;
  for (std::size_t i = 0; i < header.size(); ++i) {
    const int role = usual_role(header[i]);
    if (role < 0) {
      if (!is_set_aside(header[i])) left.push_back(i);
      continue;
    }
    any = true;
    std::size_t& place = column[static_cast<std::size_t>(role)];
    if (place == none || (is_weak_name(header[place]) && !is_weak_name(header[i]))) {
      place = i;
    } else if (static_cast<std::size_t>(role) < roles && !is_weak_name(header[i])) {
      throw RatingsError(
          fmt::format("{}: the header has two columns that may be the {}, {} and {}; name the "
                      "columns",
                      path, called[static_cast<std::size_t>(role)], printable(header[place]),
                      printable(header[i])),
          RatingsError::Remedy::columns);
    }
  }
  std::vector<std::size_t> missing;
  for (std::size_t role = 0; role < roles; ++role) {
    if (column[role] == none) missing.push_back(role);
  }
  const bool settled =
      missing.empty() || (any ? missing.size() == 1 && left.size() == 1 : left.size() >= roles);
  if (!settled) {
    std::vector<std::string> wanted, names;
    for (const std::size_t role : missing) wanted.emplace_back(called[role]);
    for (const auto& name : header) names.push_back(printable(name));
    throw RatingsError(
        fmt::format("{}: the header does not say which column is the {}; it has {}; name them",
                    path, fmt::join(wanted, " and which the "), fmt::join(names, ", ")),
        RatingsError::Remedy::columns);
  }
  for (std::size_t i = 0; i < missing.size(); ++i) column[missing[i]] = left[i];
  layout.column = column;
}

void check_format(const RatingsFormat& format, bool pairs) {
  if (format.delimiter.find_first_of("\"\r\n") != std::string::npos) {
    throw ValueError("ratings: a delimiter cannot hold quotes or line ends");
  }
  if (!(format.low <= format.high)) {
    throw ValueError(fmt::format("ratings: expected a range LOW:HIGH with LOW <= HIGH; got {}:{}",
                                 format.low, format.high));
  }
  const std::size_t count = format.columns.size();
  if (count != 0 && count != 3 && !(pairs && count == 2)) {
    throw ValueError(
        fmt::format("ratings: expected three columns (user, item, rating); got {}", count));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& name = format.columns[i];
    if (name.empty() || (is_column_number(name) && std::stoul(name) == 0)) {
      throw ValueError("ratings: columns are names of the header or numbers from 1");
    }
    if (!is_column_number(name) && format.header == RatingsFormat::Header::no) {
      throw ValueError(
          fmt::format("ratings: column '{}' is a name, but there is to be no header", name));
    }
    const auto before = format.columns.begin() + static_cast<std::ptrdiff_t>(i);
    const auto same = [&name](const std::string& other) {
      if (!is_column_number(name) || !is_column_number(other)) return name == other;
      return std::stoul(name) == std::stoul(other);
    };
    if (std::find_if(format.columns.begin(), before, same) != before) {
      throw ValueError(fmt::format("ratings: column '{}' is given twice", name));
    }
  }
}

/// A word that is no id of a table: ids of made-up or exported data nearly always have digits.
bool is_new_word(std::string_view text, const IdTable& ids) {
  return !text.empty() && text.find_first_of("0123456789") == text.npos && ids.find(text) < 0;
}

/// A header has usual names, no number where numbers belong, or names that the ids do not have.
bool looks_like_header(const Fields& first, const Layout& layout, bool pairs,
                       const Ratings* known) {
  std::array<bool, 3> found = {};
  for (const auto& name : first) {
    const int role = usual_role(name);
    if (role >= 0) found[static_cast<std::size_t>(role)] = true;
  }
  if (static_cast<int>(found[0]) + static_cast<int>(found[1]) + static_cast<int>(found[2]) >= 2) {
    return true;
  }
  const auto field = [&](std::size_t role) { return first[layout.column[role]]; };
  if (pairs) {
    return known != nullptr && is_new_word(field(0), known->users) &&
           is_new_word(field(1), known->items);
  }
  return can_be_name(field(2)) && !is_number(field(2)) && !is_number(field(0)) &&
         !is_number(field(1));
}

Layout find_layout(const std::string& path, const LineReader& reader, const RatingsFormat& format,
                   bool pairs, const Ratings* known) {
  check_format(format, pairs);
  const std::size_t roles = pairs ? 2 : 3;
  const std::vector<std::string> lines = reader.first_lines(50);
  if (lines.empty()) throw InputError(fmt::format("{}: the file has only blank lines", path));
  // Pairs of the ratings' ids are written as these are, if that splits every line.
  const bool as_known = pairs && known != nullptr && format.delimiter.empty();
  detail::Dialect dialect =
      detail::find_dialect(lines, as_known ? known->delimiter : format.delimiter, roles);
  if (as_known && !dialect.all) dialect = detail::find_dialect(lines, "", roles);
  if (pairs && dialect.fields == 0) dialect = detail::find_dialect(lines, "", roles);
  if (dialect.fields == 0) {
    throw InputError(
        fmt::format("{}: expected at least {} columns ({}); line 1 is '{}', and {} it so; name the "
                    "delimiter",
                    path, roles, pairs ? "user, item" : "user, item, rating", printable(lines[0]),
                    pairs || format.delimiter.empty()
                        ? "no tab, comma, semicolon, bar, '::' or blank splits"
                        : detail::delimiter_name(format.delimiter) + " does not split"));
  }
  Layout layout;
  layout.delimiter = dialect.delimiter;
  layout.fields = dialect.fields;
  FieldSplitter splitter(layout.delimiter);
  Fields first;
  const bool whole = *splitter.split(lines[0], first) == '\0' && first.size() == layout.fields;

  const bool by_name = std::any_of(format.columns.begin(), format.columns.end(),
                                   [](const auto& c) { return !is_column_number(c); });
  bool chosen = false;
  if (!format.columns.empty()) {
    // A header with a missing name must not pass for data, unless pairs come from another table.
    if (by_name && !whole) {
      throw InputError(
          fmt::format("{}: line 1 is to be the header, but it has {} columns and the "
                      "others {}",
                      path, first.size(), layout.fields));
    }
    const Fields numbered(layout.fields);
    chosen = asked_columns(path, format, by_name ? first : numbered, roles, !pairs, layout);
  }
  switch (format.header) {
    case RatingsFormat::Header::yes:
      layout.header = true;
      break;
    case RatingsFormat::Header::no:
      layout.header = false;
      break;
    case RatingsFormat::Header::detect:
      layout.header =
          (by_name && chosen) || (whole && looks_like_header(first, layout, pairs, known));
  }
  if (layout.header && !chosen && whole) usual_columns(path, first, roles, layout);
  std::vector<std::string> names;
  for (std::size_t role = 0; role < roles; ++role) {
    const std::size_t at = layout.column[role];
    names.push_back(layout.header && at < first.size() ? printable(first[at])
                                                       : std::to_string(at + 1));
  }
  layout.description = fmt::format("{}, {}, columns {}", detail::delimiter_name(layout.delimiter),
                                   layout.header ? "header" : "no header", fmt::join(names, ", "));
  return layout;
}

/// Line numbers of entries, stored only where they do not follow the entry before.
class LineNumbers {
 public:
  void add(index_t entry, index_t line) {
    if (starts_.empty() || line - starts_.back().second != entry - starts_.back().first) {
      starts_.emplace_back(entry, line);
    }
  }
  index_t line(index_t entry) const {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(),
                                        std::make_pair(entry, std::numeric_limits<index_t>::max()));
    return (after - 1)->second + entry - (after - 1)->first;
  }

 private:
  std::vector<std::pair<index_t, index_t>> starts_;
};

using Complaint = std::pair<index_t, std::string>;  // line and what is wrong with it

[[noreturn]] void refuse(const std::string& path, index_t count, std::vector<Complaint> complaints,
                         RatingsError::Remedy remedy) {
  std::sort(complaints.begin(), complaints.end());
  if (complaints.size() > most_complaints) complaints.resize(most_complaints);
  std::string text =
      fmt::format("{}: {} line{} cannot be used", path, count, count == 1 ? "" : "s");
  for (const auto& [line, what] : complaints) text += fmt::format("\n  line {}: {}", line, what);
  const index_t more = count - static_cast<index_t>(complaints.size());
  if (more > 0) text += fmt::format("\n  and {} more", more);
  throw RatingsError(text, remedy);
}

/// Entries ordered by user, then item, then position in the file, by two counting sorts.
std::vector<std::int32_t> order_by_pair(const Ratings& r) {
  const auto sorted = [&r](const std::vector<std::int32_t>& key, index_t keys,
                           const std::vector<std::int32_t>* order) {
    std::vector<std::int32_t> next(static_cast<std::size_t>(keys) + 1, 0);
    for (const std::int32_t k : key) ++next[static_cast<std::size_t>(k) + 1];
    std::partial_sum(next.begin(), next.end(), next.begin());
    std::vector<std::int32_t> out(key.size());
    for (index_t i = 0; i < r.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const std::int32_t e = order != nullptr ? (*order)[at] : static_cast<std::int32_t>(i);
      const auto k = static_cast<std::size_t>(key[static_cast<std::size_t>(e)]);
      out[static_cast<std::size_t>(next[k]++)] = e;
    }
    return out;
  };
  const std::vector<std::int32_t> by_item = sorted(r.item, r.items.size(), nullptr);
  return sorted(r.user, r.users.size(), &by_item);
}

/// Applies the rule for duplicates; for `error` appends complaints and returns their count.
index_t resolve_duplicates(Ratings& r, Duplicates rule, const LineNumbers& lines,
                           std::vector<Complaint>& complaints) {
  const std::vector<std::int32_t> order = order_by_pair(r);
  const auto at = [](std::int32_t e) { return static_cast<std::size_t>(e); };
  std::vector<std::pair<std::int32_t, std::int32_t>> repeats;  // (repeated, first) entries
  std::vector<bool> drop;
  for (std::size_t i = 0; i < order.size();) {
    std::size_t stop = i + 1;
    while (stop < order.size() && r.user[at(order[stop])] == r.user[at(order[i])] &&
           r.item[at(order[stop])] == r.item[at(order[i])]) {
      ++stop;
    }
    if (stop > i + 1) {
      if (drop.empty()) drop.assign(order.size(), false);
      double total = 0;
      for (std::size_t j = i; j < stop; ++j) {
        total += r.value[at(order[j])];
        drop[at(order[j])] = j > i;
        if (j > i && rule == Duplicates::error) repeats.emplace_back(order[j], order[i]);
      }
      if (rule == Duplicates::last) r.value[at(order[i])] = r.value[at(order[stop - 1])];
      if (rule == Duplicates::mean) r.value[at(order[i])] = total / static_cast<double>(stop - i);
      r.merged += static_cast<index_t>(stop - i - 1);
    }
    i = stop;
  }
  if (rule == Duplicates::error) {
    const auto shown = std::min(repeats.size(), most_complaints);
    std::partial_sort(repeats.begin(), repeats.begin() + static_cast<std::ptrdiff_t>(shown),
                      repeats.end());
    for (std::size_t i = 0; i < shown; ++i) {
      const auto [entry, first] = repeats[i];
      complaints.emplace_back(
          lines.line(entry),
          fmt::format("user '{}' and item '{}' were rated before, in line {}",
                      printable(r.users.name(r.user[at(entry)])),
                      printable(r.items.name(r.item[at(entry)])), lines.line(first)));
    }
    return static_cast<index_t>(repeats.size());
  }
  if (drop.empty()) return 0;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < drop.size(); ++i) {
    if (drop[i]) continue;
    r.user[kept] = r.user[i];
    r.item[kept] = r.item[i];
    r.value[kept] = r.value[i];
    ++kept;
  }
  r.user.resize(kept);
  r.item.resize(kept);
  r.value.resize(kept);
  return 0;
}

/// What is wrong with a rating, or "".
std::string check_rating(std::string_view text, const RatingsFormat& format, double& value) {
  if (text.empty()) return "the rating is empty";
  if (!parse_number(text, value)) {
    return fmt::format("rating '{}' is not a number{}", printable(text),
                       text.find(',') != std::string_view::npos ? " (decimals need a point)" : "");
  }
  if (!(std::abs(value) <= largest_rating)) {
    return fmt::format("rating '{}' is not a finite number of at most {:g} in size",
                       printable(text), largest_rating);
  }
  if (value < format.low || value > format.high) {
    return fmt::format("rating {} is outside {}..{}", value, format.low, format.high);
  }
  return "";
}

Ratings read_table(const std::string& file, const RatingsFormat& format, bool pairs,
                   const Ratings* known) {
  LineReader reader(file);
  const std::string& path = reader.name();
  const Layout layout = find_layout(path, reader, format, pairs, known);
  Ratings r;
  r.dialect = layout.description;
  r.delimiter = layout.delimiter;
  FieldSplitter splitter(layout.delimiter);
  LineNumbers numbers;
  std::vector<Complaint> complaints;
  index_t bad = 0;
  bool header = layout.header;
  std::string_view line;
  Fields fields;
  while (reader.next(line)) {
    if (detail::is_blank(line)) continue;
    if (header) {
      header = false;
      continue;
    }
    ++r.lines;
    std::string what = splitter.split(line, fields);
    double value = 0;
    if (what.empty() && fields.size() != layout.fields) {
      what = fmt::format("expected {} columns; got {}", layout.fields, fields.size());
    }
    if (what.empty() && fields[layout.column[0]].empty()) what = "the user is empty";
    if (what.empty() && fields[layout.column[1]].empty()) what = "the item is empty";
    if (what.empty() && !pairs) what = check_rating(fields[layout.column[2]], format, value);
    if (!what.empty()) {
      ++bad;
      if (complaints.size() < most_complaints) complaints.emplace_back(reader.number(), what);
      continue;
    }
    if (r.size() == std::numeric_limits<std::int32_t>::max()) {
      throw InputError(fmt::format("{}: more than 2^31 - 1 lines", path));
    }
    numbers.add(r.size(), reader.number());
    r.user.push_back(static_cast<std::int32_t>(r.users.insert(fields[layout.column[0]])));
    r.item.push_back(static_cast<std::int32_t>(r.items.insert(fields[layout.column[1]])));
    if (!pairs) r.value.push_back(value);
  }
  if (r.lines == 0)
    throw InputError(fmt::format("{}: there is a header but no line below it", path));
  if (format.skip_bad) {
    r.skipped = bad;
    for (const auto& [number, what] : complaints) {
      r.skipped_examples.push_back(fmt::format("line {}: {}", number, what));
    }
    complaints.clear();
    bad = 0;
    if (r.size() == 0) {
      throw InputError(fmt::format("{}: none of {} lines can be used; {}", path, r.lines,
                                   r.skipped_examples[0]));
    }
  }
  const index_t repeated =
      pairs ? 0 : resolve_duplicates(r, format.duplicates, numbers, complaints);
  if (bad + repeated > 0) {
    refuse(path, bad + repeated, std::move(complaints),
           repeated == 0 ? RatingsError::Remedy::skip_bad
           : bad == 0    ? RatingsError::Remedy::duplicates
                         : RatingsError::Remedy::skip_bad_and_duplicates);
  }
  return r;
}

}  // namespace

Ratings read_ratings(const std::string& path, const RatingsFormat& format) {
  return read_table(path, format, false, nullptr);
}

Ratings read_pairs(const std::string& path, const RatingsFormat& format, const Ratings* known) {
  return read_table(path, format, true, known);
}

}  // namespace parsimony
