// JSON lines: each line one flat object. The parser calls back for every value, so that no tree is
// built and depth is refused before it costs anything.
#include <parsimony/error.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "data/text_table_parts.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::detail {

namespace {

using Json = nlohmann::json;

constexpr int deepest = 32;

/// One line's fields in their order, or a complaint.
class FlatObject : public Json::json_sax_t {
 public:
  struct Field {
    std::string key, value;
    const char* unusable = nullptr;  // "null", "a list", "an object"
  };
  std::vector<Field> fields;
  std::string complaint;

  bool null() override { return unusable("null"); }
  bool boolean(bool value) override { return add(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return add(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& spelled) override { return add(spelled); }
  bool string(string_t& value) override {
    if (value.find('\0') != string_t::npos) return fail("a string holds the character \\u0000");
    return add(value);
  }
  bool binary(binary_t&) override { return unusable("binary"); }
  bool start_object(std::size_t) override { return open(depth_ == 0 ? nullptr : "an object"); }
  bool start_array(std::size_t) override {
    if (depth_ == 0) return fail("a list; expected an object {...} on a line of its own");
    return open("a list");
  }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool key(string_t& name) override {
    if (depth_ > 1) return true;
    if (!seen_.insert(name).second) {
      return fail(fmt::format("the key '{}' comes twice", printable(name)));
    }
    fields.push_back({name, "", nullptr});
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 7: ...": the line is ours.
    std::string what = error.what();
    const std::size_t column = what.find("column");
    what.erase(0, column != std::string::npos ? column : what.find("] ") + 2);
    return fail("not JSON: " + what.substr(0, 200));
  }

 private:
  bool add(std::string value) {
    if (depth_ == 0) return fail("expected an object {...}");
    if (depth_ == 1) fields.back().value = std::move(value);
    return true;
  }
  bool unusable(const char* what) {
    if (depth_ == 0) return fail("expected an object {...}");
    if (depth_ == 1) fields.back().unusable = what;
    return true;
  }
  bool open(const char* what) {
    if (what != nullptr && depth_ == 1) fields.back().unusable = what;
    if (++depth_ <= deepest) return true;
    return fail(fmt::format("nested deeper than {} levels", deepest));
  }
  bool fail(std::string what) {
    complaint = std::move(what);
    return false;
  }

  std::unordered_set<std::string> seen_;
  int depth_ = 0;
};

}  // namespace

void read_json_lines(std::string_view text, const TextFormat& format, TextTable& table) {
  if (format.header == TextFormat::Header::yes) {
    throw ValueError("text table: JSON lines have keys, not a header");
  }
  std::string_view line;
  for (index_t number = 1; next_line(text, line); ++number) {
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}, line {}", table.file, number);
    FlatObject object;
    if (!Json::sax_parse(line, &object)) {
      throw InputError(fmt::format("{}: {}", where, object.complaint));
    }
    std::vector<std::string> keys;
    for (const auto& field : object.fields) keys.push_back(field.key);
    if (table.rows.empty()) {
      // The first object says which keys the columns are.
      table.has_names = true;
      for (const std::size_t c : choose_columns(where, format.columns, keys, keys.size())) {
        if (format.columns.empty() && object.fields[c].unusable != nullptr) continue;
        table.columns.push_back(keys[c]);
      }
      if (table.columns.empty()) {
        throw InputError(fmt::format("{}: the object has no strings or numbers", where));
      }
    }
    std::vector<std::string> row;
    for (const std::string& column : table.columns) {
      const auto found = std::find(keys.begin(), keys.end(), column);
      if (found == keys.end()) {
        const std::string near = nearest_name(column, keys);
        throw InputError(
            fmt::format("{}: there is no key '{}'{}", where, printable(column),
                        near.empty() ? "" : fmt::format(", did you mean '{}'?", printable(near))));
      }
      auto& field = object.fields[static_cast<std::size_t>(found - keys.begin())];
      if (field.unusable != nullptr) {
        throw InputError(fmt::format("{}: '{}' is {}; expected a string or a number", where,
                                     printable(column), field.unusable));
      }
      row.push_back(std::move(field.value));
    }
    table.rows.push_back(std::move(row));
    table.lines.push_back(number);
  }
  if (table.rows.empty()) {
    throw InputError(fmt::format("{}: the file has only blank lines", table.file));
  }
}

}  // namespace parsimony::detail
