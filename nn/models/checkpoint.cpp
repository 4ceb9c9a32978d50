#include "checkpoint.hpp"

#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "io/tensor_name.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;

std::string begun_by(const std::string& name, const std::vector<std::string>& beginnings) {
  for (const std::string& beginning : beginnings) {
    if (starts_with(name, beginning)) return beginning;
  }
  return "";
}

/// The files of a sharded model. @throws InputError on an index that is none.
std::vector<std::string> shards(const fs::path& index) {
  std::set<std::string> names;
  try {
    const auto json = nlohmann::json::parse(read_file(index.string()));
    for (const auto& [tensor, file] : json.at("weight_map").items()) {
      names.insert(file.get<std::string>());
    }
  } catch (const nlohmann::json::exception& e) {
    throw InputError(fmt::format("'{}': expected a weight_map of tensors and files; {}",
                                 index.string(), printable(e.what(), 200)));
  }
  if (names.empty()) {
    throw InputError(
        fmt::format("'{}': weight_map: expected files of tensors; it is empty", index.string()));
  }
  std::vector<std::string> files;
  for (const std::string& name : names) {
    if (fs::path(name).has_parent_path()) {
      throw InputError(fmt::format("'{}': expected files of the same folder; got '{}'",
                                   index.string(), printable(name)));
    }
    files.push_back((index.parent_path() / name).string());
  }
  return files;
}

std::vector<std::string> weight_files(const std::string& folder) {
  const fs::path path = fs::path(folder) / "model.safetensors";
  if (fs::exists(path)) return {path.string()};
  const fs::path index = fs::path(folder) / "model.safetensors.index.json";
  if (fs::exists(index)) return shards(index);
  check_folder(folder, "a model folder");
  for (const char* pickle : {"pytorch_model.bin", "pytorch_model.pt", "model.bin"}) {
    if (fs::exists(fs::path(folder) / pickle)) {
      throw InputError(fmt::format(
          "'{}' has {} but no model.safetensors; a pickle can run code and is not read. Convert "
          "it: "
          "load it with transformers and call save_pretrained(folder, safe_serialization=True)",
          folder, pickle));
    }
  }
  throw InputError(fmt::format("'{}': model.safetensors is missing", folder));
}

/// The first names, each with its nearest of `others`.
std::string listed(const std::vector<std::string>& names, const std::vector<std::string>& others,
                   const char* nearest) {
  constexpr std::size_t most = 12;
  std::string out;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) {
    const std::string near = nearest_name(names[i], others);
    out += (i == 0 ? "" : ", ") + shown_name(names[i]);
    if (!near.empty()) out += fmt::format(" ({} {})", nearest, shown_name(near));
  }
  if (most < names.size()) out += fmt::format(", and {} more", names.size() - most);
  return out;
}

}  // namespace

void check_weights(const std::string& folder) { weight_files(folder); }

Checkpoint::Checkpoint(const std::string& folder, const CheckpointRules& rules) : rules_(rules) {
  bool prefixed = rules.prefix.empty();
  for (const std::string& file : weight_files(folder)) {
    source_ = file;
    files_.push_back(load_safetensors(file));
    for (const std::string& name : files_.back().names()) {
      prefixed = prefixed || starts_with(name, rules.prefix);
    }
  }
  for (std::size_t file = 0; file < files_.size(); ++file) {
    for (const std::string& name : files_[file].names()) {
      std::string ours = rules.renamed ? rules.renamed(name) : name;
      if (!prefixed && begun_by(ours, rules.heads).empty()) ours.insert(0, rules.prefix);
      const auto [at, is_new] = places_.emplace(ours, Place{file, name});
      if (!is_new) {
        throw InputError(fmt::format("'{}': {} and {} are the same tensor", source_,
                                     shown_name(at->second.name), shown_name(name)));
      }
    }
  }
}

bool Checkpoint::transposed(const std::string& name) const {
  return rules_.transposed && rules_.transposed(name);
}

Shape Checkpoint::shape(const std::string& name, const Shape& expected) const {
  const Place& place = places_.at(name);
  Shape found = files_[place.file].shape(place.name);
  if (transposed(name) && found.rank() == 2) return {found[1], found[0]};
  const auto other = rules_.shapes.find(name);
  return other != rules_.shapes.end() && found == other->second ? expected : found;
}

template <class T>
Tensor<T> Checkpoint::get(const std::string& name, const Shape& expected) const {
  const Place& place = places_.at(name);
  const Tensor<T> found = files_[place.file].weight<T>(place.name);
  return transposed(name) ? transpose(found) : found.reshape(expected);
}

void Checkpoint::check_size(double described, const std::string& sizes) const {
  double there = 0;
  for (const TensorMap& file : files_) {
    for (const std::string& name : file.names()) {
      double values = 1;
      for (const index_t n : file.shape(name)) values *= static_cast<double>(n);
      there += values;
    }
  }
  if (described > 64 * there + 0x1p26) {
    throw InputError(
        fmt::format("'{}' has {:.3g} numbers, but config.json describes a model of {:.3g}: {}",
                    source_, there, described, sizes));
  }
}

void Checkpoint::check_tied() const {
  for (const auto& [name, other] : rules_.tied) {
    if (!contains(name) || !contains(other)) continue;
    const Place& place = places_.at(name);
    const auto a = files_[place.file].weight<float>(place.name);
    const auto b = files_[places_.at(other).file].weight<float>(places_.at(other).name);
    if (a.shape() != b.shape() || !std::equal(a.begin(), a.end(), b.begin())) {
      throw InputError(
          fmt::format("'{}': {} is not the word embedding; only tied decoders are "
                      "supported",
                      source_, place.name));
    }
  }
}

template <class T>
LoadReport Checkpoint::load_into(Module<T>& model, bool new_head, const Initializer& init) const {
  check_tied();
  LoadReport found;
  std::vector<std::string> missing;
  std::vector<std::string> misshaped;
  std::set<std::string> parts_there;
  for (const auto& [name, place] : places_) parts_there.insert(begun_by(name, rules_.optional));
  std::set<std::string> known;
  const auto leave_fresh = [&](const std::string& name, const Var<T>& var) {
    init.draw(var.value());
    found.fresh.push_back(name);
  };
  for (auto& [name, var] : model.named_parameters()) {
    known.insert(name);
    const std::string part = begun_by(name, rules_.optional);
    if (!contains(name)) {
      const bool whole_part = !part.empty() && parts_there.count(part) == 0;
      if (whole_part) {
        leave_fresh(name, var);
      } else {
        missing.push_back(name);
      }
      continue;
    }
    const Shape there = shape(name, var.shape());
    if (there == var.shape()) {
      var.assign(get<T>(name, there));
    } else if (new_head && !part.empty() && part == rules_.resizable) {
      leave_fresh(name, var);
    } else {
      misshaped.push_back(
          fmt::format("{} is {}, expected {}", name, there.str(), var.shape().str()));
    }
  }
  std::vector<std::string> unexpected;
  for (const auto& [name, place] : places_) {
    if (known.count(name) > 0) continue;
    const bool other = !begun_by(name, rules_.optional).empty() || rules_.ignored(name);
    (other ? found.ignored : unexpected).push_back(name);
  }
  std::string problems;
  if (!missing.empty()) problems += "; missing: " + listed(missing, unexpected, "the file has");
  if (!unexpected.empty()) {
    problems += "; unexpected: " + listed(unexpected, missing, "did you mean");
  }
  if (!misshaped.empty()) {
    problems += "; of another shape than config.json says: " + listed(misshaped, {}, "");
  }
  if (!problems.empty()) throw InputError(fmt::format("'{}'{}", source_, problems));
  return found;
}

template <class T>
void save_checkpoint(Module<T>& model, const std::string& folder, const CheckpointRules& rules,
                     FloatFormat format) {
  std::map<std::string, Tensor<T>> merged;
  std::vector<std::string> adapters;
  for (const auto& [name, module] : model.named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<T>*>(module);
    if (layer == nullptr || layer->adapter() == nullptr) continue;
    merged[name + ".weight"] = add(layer->weight.value(), layer->adapter()->delta());
    adapters.push_back(name + "." + layer->adapter()->name() + ".");
  }
  TensorMap out;
  for (const auto& [name, var] : model.named_parameters()) {
    if (!begun_by(name, adapters).empty()) continue;
    const auto found = merged.find(name);
    Tensor<T> value = found == merged.end() ? var.value() : found->second;
    if (rules.transposed && rules.transposed(name)) value = transpose(value);
    const auto shape = rules.shapes.find(name);
    if (shape != rules.shapes.end()) value = value.reshape(shape->second);
    out.set_narrow(name, cast<float>(value), format);
  }
  make_folders(folder);
  save_weights((fs::path(folder) / "model.safetensors").string(), out);
}

#define PARSIMONY_INSTANTIATE(T)                                                         \
  template LoadReport Checkpoint::load_into(Module<T>&, bool, const Initializer&) const; \
  template void save_checkpoint(Module<T>&, const std::string&, const CheckpointRules&,  \
                                FloatFormat);
PARSIMONY_INSTANTIATE(float)
PARSIMONY_INSTANTIATE(double)
#undef PARSIMONY_INSTANTIATE

}  // namespace parsimony
