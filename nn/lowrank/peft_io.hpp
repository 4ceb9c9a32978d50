// What reading and writing PEFT folders share.
#pragma once

#include <parsimony/adapter.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/model.hpp>

#include <string>
#include <vector>

namespace parsimony::peft {

/// What every tensor's name begins with.
constexpr const char* root = "base_model.model.";
/// Our metadata: fingerprint of the weights that the updates are for.
constexpr const char* fingerprint_key = "parsimony_base_weights";

/// What PEFT's files say differently for each family of models, by model_type.
struct Family {
  const char* type;
  const char* prefix;      // of the body's modules in models with a head
  bool fan_in_fan_out;     // linear layers are Conv1D, stored (in, out)
  const char* task_type;   // nullptr: PEFT has none for it, the class says what it is
  const char* base_class;  // written where there is no task type, with its module
  const char* class_module;
};
/// @throws ValueError for a type that is none of them.
const Family& family(const std::string& type);

template <class T>
std::vector<AdapterTarget<T>> adaptable_layers(Module<T>& model);

/// SVD of b a by QRs of its factors.
template <class T>
Svd<T> svd_of(const LoraPair<T>& pair);

}  // namespace parsimony::peft
