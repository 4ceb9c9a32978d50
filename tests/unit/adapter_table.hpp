// One row an adapter method (or a form of it): what the tests of all methods need to know of it.
#pragma once

#include <parsimony/adapter.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace parsimony::testing {

struct AdapterRow {
  std::string title;
  AdapterOptions options;
  /// Trained numbers of a layer (in, out) of rank r.
  std::function<index_t(index_t in, index_t out, index_t r)> count;
  /// Rank of the exact LoRA pair at rank r; null: there is none.
  std::function<index_t(index_t in, index_t out, index_t r)> pair_rank;
  /// Largest entry of ΔW at the start.
  double start = 0;
  /// False where part of the gradient is not that of the value, by definition.
  bool exact_gradient = true;
};

inline index_t pair_count(index_t in, index_t out, index_t r) { return r * (in + out); }
inline index_t same_rank(index_t, index_t, index_t r) { return r; }
inline index_t twice_rank(index_t, index_t, index_t r) { return 2 * r; }
inline index_t mora_side(index_t in, index_t out, index_t r) {
  return static_cast<index_t>(std::sqrt(static_cast<double>((in + out) * r)) + 0.5);
}

inline std::vector<AdapterRow> adapter_table() {
  const auto options = [](const char* method, std::map<std::string, Setting> values = {}) {
    return AdapterOptions{method, std::move(values)};
  };
  const auto square = [](index_t, index_t, index_t r) { return r * r; };
  std::vector<AdapterRow> rows = {
      {"lora", options("lora"), pair_count, same_rank},
      {"lora, peft", options("lora", {{"init", "peft"}, {"alpha", 3.0}}), pair_count, same_rank},
      {"rslora", options("rslora"), pair_count, same_rank},
      {"lora-plus", options("lora-plus"), pair_count, same_rank},
      {"lora-xs", options("lora-xs"), square, same_rank, 1e-3},
      {"lora-xs, random", options("lora-xs", {{"frame", "random"}}), square, same_rank, 1e-3},
      {"olora", options("olora", {{"alpha", 1.5}}), pair_count, twice_rank, 1e-6},
      {"pissa", options("pissa", {{"alpha", 1.5}}), pair_count, twice_rank, 1e-6},
      {"dora", options("dora"),
       [](index_t in, index_t out, index_t r) { return r * (in + out) + out; }, nullptr, 1e-6,
       false},
      {"vera", options("vera"), [](index_t, index_t out, index_t r) { return r + out; }, same_rank},
      {"nola", options("nola", {{"bases", index_t{7}}}),
       [](index_t, index_t, index_t) { return index_t{14}; }, same_rank},
      {"nola, shared bases", options("nola", {{"bases", index_t{3}}, {"share_bases", true}}),
       [](index_t, index_t, index_t) { return index_t{6}; }, same_rank},
      {"deep-lora", options("deep-lora"),
       [](index_t in, index_t out, index_t r) { return r * (in + out) + r * r; }, same_rank, 1e-6},
      {"deep-lora, full", options("deep-lora", {{"form", "full"}, {"eps", 0.05}}),
       [](index_t in, index_t out, index_t) {
         const index_t w = std::min(in, out);
         return w * (in + out) + w * w;
       },
       [](index_t in, index_t out, index_t) { return std::min(in, out); }, 1e-3},
  };
  for (const index_t type : {1, 2, 3, 4, 6}) {
    const auto side = [type](index_t in, index_t out, index_t r) {
      const index_t s = mora_side(in, out, r);
      return type == 6 ? s - s % 2 : s;
    };
    AdapterRow row{
        "mora, type " + std::to_string(type), options("mora", {{"mora_type", type}}),
        [side](index_t in, index_t out, index_t r) { return side(in, out, r) * side(in, out, r); },
        nullptr};
    if (type != 6) row.pair_rank = side;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace parsimony::testing
