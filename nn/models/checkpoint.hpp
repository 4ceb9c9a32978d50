// Weights of Hugging Face folders into models and back: names, prefixes, heads that may be missing,
// and tensors that files hold in another layout.
#pragma once

#include <parsimony/bert.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace parsimony {

/// How the tensors of a family are named and laid out in files.
struct CheckpointRules {
  /// What a model with a head puts before the names of its body: "bert.". Bare files lack it.
  std::string prefix;
  /// Beginnings of the names that never have the prefix.
  std::vector<std::string> heads;
  /// Parts that may be missing as a whole and are then left fresh, by the beginnings of their
  /// names.
  std::vector<std::string> optional;
  /// The part that is left fresh where the file's has another shape and a new head was asked for.
  std::string resizable;
  /// A name in a file under today's spelling; the same if there is no function.
  std::function<std::string(const std::string&)> renamed;
  /// Tensors of files that no model has: buffers, other heads.
  std::function<bool(const std::string&)> ignored;
  /// Weights (out, in) that files hold as (in, out).
  std::function<bool(const std::string&)> transposed;
  /// Shapes in files, where they differ otherwise.
  std::map<std::string, Shape> shapes;
  /// Tensors that models do not have because they are another one: name in files to the other's.
  std::map<std::string, std::string> tied;
};

/// @throws InputError if the folder has no weights that can be read: none at all, or a pickle.
void check_weights(const std::string& folder);

/// The tensors of a folder by our names: model.safetensors, or the files that
/// model.safetensors.index.json lists.
class Checkpoint {
 public:
  /// @throws InputError as check_weights; if two names of the file mean one tensor.
  Checkpoint(const std::string& folder, const CheckpointRules& rules);

  /// A config that is far from its file would cost its memory before the shapes can be compared.
  /// @throws InputError if the model that it describes, of these sizes, has many more numbers than
  /// the file.
  void check_size(double described, const std::string& sizes) const;
  /// Sets the parameters of a model that was built with `init`, which draws what the file lacks and
  /// may. @throws InputError listing what is missing, unexpected or mis-shaped, with the nearest
  /// names; on a tied tensor that is not the other one's copy.
  template <class T>
  LoadReport load_into(Module<T>& model, bool new_head, const Initializer& init) const;

 private:
  struct Place {
    std::size_t file;
    std::string name;
  };
  bool contains(const std::string& name) const { return places_.count(name) > 0; }
  bool transposed(const std::string& name) const;
  /// The shape as a model has it.
  Shape shape(const std::string& name, const Shape& expected) const;
  template <class T>
  Tensor<T> get(const std::string& name, const Shape& expected) const;
  void check_tied() const;

  CheckpointRules rules_;
  std::string source_;
  std::vector<TensorMap> files_;
  std::map<std::string, Place> places_;
};

/// Writes model.safetensors, adapters merged into their weights. @throws IoError.
template <class T>
void save_checkpoint(Module<T>& model, const std::string& folder, const CheckpointRules& rules,
                     FloatFormat format);

}  // namespace parsimony
