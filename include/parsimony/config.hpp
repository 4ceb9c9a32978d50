// The configuration of a run: declared keys with defaults and help, presets over them, `--set`
// last.
#pragma once

#include <parsimony/strings.hpp>
#include <parsimony/tensor.hpp>

#include <string>
#include <variant>
#include <vector>

namespace parsimony {

/// A setting: flag, integer, real, text, or a list of integers or reals ("10,20,30").
using Setting =
    std::variant<bool, index_t, double, std::string, std::vector<index_t>, std::vector<double>>;

class Config {
 public:
  struct Entry {
    std::string key;
    Setting value;
    std::string help;
  };

  /// Adds a key with its default. @throws ValueError if the key exists or the number is not finite.
  void declare(const std::string& key, Setting value, const std::string& help);
  /// Replaces a declared value by one of the same type: what a preset does.
  /// @throws ValueError on an unknown key (the nearest name is suggested) or another type.
  void preset(const std::string& key, Setting value);
  /// Parses text into the declared type: what `--set key=value` does, in every locale alike.
  /// @throws ValueError "key: expected a number; got 'abc'", or as preset().
  void set(const std::string& key, const std::string& text);

  /// True if the key is declared.
  bool has(const std::string& key) const;
  /// True if the key's type is `Held`.
  template <class Held>
  bool holds(const std::string& key) const {
    return std::holds_alternative<Held>(find(key).value);
  }
  bool flag(const std::string& key) const;
  index_t integer(const std::string& key) const;
  double real(const std::string& key) const;
  const std::string& text(const std::string& key) const;
  const std::vector<index_t>& integers(const std::string& key) const;
  const std::vector<double>& reals(const std::string& key) const;

  /// integer(key), checked. @throws ValueError "key: expected low..high; got ...".
  index_t integer(const std::string& key, index_t low, index_t high) const;
  /// real(key), checked to lie in [low, high].
  double real(const std::string& key, double low, double high) const;

  /// text(key), checked to be one of `choices`.
  const std::string& text(const std::string& key, const std::vector<std::string>& choices) const;

  const std::vector<Entry>& entries() const { return entries_; }
  /// The resolved values as a JSON object, one key a line.
  std::string json() const;

 private:
  const Entry& find(const std::string& key) const;
  Entry& find(const std::string& key);
  std::vector<Entry> entries_;
};

}  // namespace parsimony
