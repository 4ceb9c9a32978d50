#include "fingerprint.hpp"

#include "io/digest.hpp"

namespace parsimony {

template <class T>
std::string fingerprint(const Module<T>& model,
                        const std::function<bool(const std::string&)>& is_held) {
  Digest digest;
  for (const auto& [name, var] : model.named_parameters()) {
    if (is_held(name)) continue;
    digest.add(name);
    digest.add(var.shape().str());
    // As floats, so that a model in double precision has the same.
    const Tensor<float> values = cast<float>(var.value());
    digest.add(values.data(), static_cast<std::size_t>(values.size()) * sizeof(float));
  }
  return digest.digits();
}

template std::string fingerprint(const Module<float>&,
                                 const std::function<bool(const std::string&)>&);
template std::string fingerprint(const Module<double>&,
                                 const std::function<bool(const std::string&)>&);

}  // namespace parsimony
