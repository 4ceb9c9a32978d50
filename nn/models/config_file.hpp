// config.json of a model folder: read with every key checked, written as transformers reads it.
#pragma once

#include <parsimony/factored.hpp>
#include <parsimony/tensor.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace parsimony {

std::string config_path(const std::string& folder);

/// Checked access to the keys of a config.json, with the file's name in every message. A key that
/// is missing or null leaves the value as it is, unless it is required.
class ConfigReader {
 public:
  /// @throws InputError if the file is missing or holds no JSON object of sensible depth.
  explicit ConfigReader(const std::string& path);
  ~ConfigReader();
  ConfigReader(ConfigReader&&) noexcept;

  [[noreturn]] void fail(const std::string& what) const;
  bool has(const char* key) const;
  void integer(const char* key, index_t& value, bool required = false) const;
  void real(const char* key, double& value) const;
  void real(const char* key, std::optional<double>& value) const;
  void boolean(const char* key, bool& value) const;
  void text(const char* key, std::string& value) const;
  /// A key that, if it is there, must be one of these texts.
  void only(const char* key, const std::vector<std::string>& allowed) const;
  /// A key that, if it is there, must be this.
  void must_be(const char* key, bool value) const;
  /// A whole number or the first of a list of them.
  void first_integer(const char* key, index_t& value) const;
  /// id2label or num_labels.
  void labels(index_t& count, std::vector<std::string>& names) const;
  /// Ranks of factored layers by name, empty if the key is not there.
  void factored_ranks(FactoredRanks& ranks) const;
  /// An object inside, empty if it is not there.
  ConfigReader inside(const char* key) const;

 private:
  struct Json;
  ConfigReader(std::string path, std::unique_ptr<Json> json);
  std::string path_;
  std::unique_ptr<Json> json_;
};

/// Collects keys in order and writes them whole or not at all.
class ConfigWriter {
 public:
  /// `architecture`: transformers' class.
  ConfigWriter(const char* model_type, const std::string& architecture);
  ~ConfigWriter();
  ConfigWriter& set(const char* key, index_t value);
  ConfigWriter& set(const char* key, double value);
  ConfigWriter& set(const char* key, bool value);
  ConfigWriter& set(const char* key, const char* value);
  /// id2label, label2id and, for one label, the problem's type.
  ConfigWriter& labels(index_t count, const std::vector<std::string>& names);
  /// The key is left out if there are none.
  ConfigWriter& factored_ranks(const FactoredRanks& ranks);
  /// @throws IoError.
  void save(const std::string& path) const;

 private:
  struct Json;
  std::unique_ptr<Json> json_;
};

/// @throws ValueError "NAME: expected 1..2^24; got ..." on a size outside.
void check_sizes(const std::vector<std::pair<const char*, index_t>>& sizes);
/// @throws ValueError unless there are no names, or `count` of them.
void check_labels(index_t count, const std::vector<std::string>& names);
/// @throws ValueError unless all are probabilities below 1.
void check_dropout(const std::vector<double>& probabilities);

}  // namespace parsimony
