// Adapters for tests: the forms of the paper by name, on a weight of their own.
#pragma once

#include <parsimony/adapter.hpp>

#include <memory>
#include <string>

namespace parsimony::testing {

/// A form of adapter: the method and its settings.
struct AdapterKind {
  std::string label, method, form, init;
  index_t depth = 3;
  bool wide = false;
  /// Parameters for a weight (m, n) at rank r, or at full width.
  bool orthogonal() const { return method == "deep-lora" && form != "compressed"; }
  bool starts_at_zero() const { return method == "lora"; }
};

inline std::vector<AdapterKind> adapter_kinds() {
  std::vector<AdapterKind> kinds = {{"LoRA, paper", "lora", "", "paper"},
                                    {"LoRA, PEFT", "lora", "", "peft"}};
  for (const index_t depth : {3, 4, 5}) {
    for (const char* form : {"narrow", "full", "compressed"}) {
      kinds.push_back(
          {std::string(form) + ", depth " + std::to_string(depth), "deep-lora", form, "", depth});
    }
  }
  kinds.push_back({"full, the wider side", "deep-lora", "full", "", 3, true});
  return kinds;
}

/// `gamma`: step of the compressed form's outer factors over that of the inner ones.
inline AdapterOptions adapter_options_of(const AdapterKind& kind, index_t rank, double eps,
                                         double gamma = 0.1) {
  AdapterOptions o{kind.method};
  o.set("rank", rank);
  if (kind.method == "lora") {
    o.set("init", kind.init);
    o.set("alpha", 3.0 * static_cast<double>(rank));  // a scaling of 3 where there is one
    return o;
  }
  return o.set("form", kind.form)
      .set("depth", kind.depth)
      .set("eps", eps)
      .set("wide", kind.wide)
      .set("gamma", gamma);
}

/// Of a weight; for the compressed form with a random gradient subspace. Streams of `rng` by name.
template <class T>
std::unique_ptr<Adapter<T>> make_adapter(const AdapterKind& kind, const Tensor<T>& weight,
                                         bool rows_are_inputs, index_t rank, double eps,
                                         const Rng& rng, const TopSingular<T>* gradient = nullptr) {
  const AdapterMethod<T>& method = adapter_method<T>(kind.method);
  const AdapterOptions options = adapter_options_of(kind, rank, eps);
  TopSingular<T> top;
  const index_t h = method.wants_gradient(options);
  if (h > 0 && gradient == nullptr) {
    Rng u = rng.split("gradient.u");
    Rng v = rng.split("gradient.v");
    top = {haar_orthogonal<T>(u, weight.dim(0), h), Tensor<T>::ones({h}),
           haar_orthogonal<T>(v, weight.dim(1), h)};
    gradient = &top;
  }
  AdapterSite<T> site;
  site.weight = weight;
  site.rng = rng.split("adapter");
  site.rows_are_inputs = rows_are_inputs;
  site.gradient = gradient;
  return method.make(site, options);
}

}  // namespace parsimony::testing
