// arrays.safetensors: what an outsider needs to recompute the claims, under sorted names.
#include <parsimony/error.hpp>
#include <parsimony/safetensors.hpp>

#include <fmt/format.h>

#include "run/state.hpp"

namespace parsimony {

namespace {

template <class Arrays>
void add_arrays(const Arrays& arrays, TensorMap& out) {
  for (const auto& [name, array] : arrays) {
    if (array.tensor.version() != array.version) {
      throw ValueError(
          fmt::format("array '{}' was changed after it was handed in; hand in a clone()", name));
    }
    if (out.contains(name)) {
      throw ValueError(fmt::format("array '{}' was handed in with two types", name));
    }
    out.set(name, array.tensor);
  }
}

}  // namespace

void Run::Impl::save_arrays() {
  TensorMap out;
  add_arrays(reals, out);
  add_arrays(floats, out);
  add_arrays(bytes, out);
  add_arrays(integers, out);
  if (out.size() == 0 && notes.empty()) return;
  out.metadata = notes;
  save_safetensors(folder + "/arrays.safetensors", out);
}

}  // namespace parsimony
