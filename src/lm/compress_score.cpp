// What a compressed model is worth, and the account of a compression.
#include <parsimony/compress.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "lm/compress_score.hpp"

namespace parsimony {

namespace {

using Json = nlohmann::ordered_json;

std::vector<index_t> range(index_t first, index_t last) {
  std::vector<index_t> out(static_cast<std::size_t>(last - first));
  std::iota(out.begin(), out.end(), first);
  return out;
}

Tensor<float> log_probabilities(const CompressionBatch& batch, const Module<float>& model) {
  Pass pass;
  const Var<float> outputs = batch.outputs(model, pass);
  return batch.values.defined() ? outputs.value() : log_softmax(outputs).value();
}

Json of_score(const CompressionScore& s) {
  return {{"loss", s.loss}, {"perplexity", std::exp(s.loss)}, {"divergence", s.divergence}};
}

}  // namespace

Scorer::Scorer(const CompressionData& data, CompressionData::Part part,
               const Module<float>* original)
    : data_(data), sequences_(data.size(part)), model_(original) {
  constexpr index_t at_once = 8;
  constexpr index_t most_kept = index_t{1} << 27;  // numbers
  index_t kept = 0;
  const Rng rng = Rng(0).split("masks");
  for (index_t first = 0; first < sequences_; first += at_once) {
    const index_t last = std::min(sequences_, first + at_once);
    batches_.push_back(
        data.batch(part, range(first, last), rng.split(static_cast<std::uint64_t>(first))));
    if (original == nullptr || kept > most_kept) continue;
    const NoGrad no_grad;
    original_.push_back(log_probabilities(batches_.back(), *original));
    kept += original_.back().size();
  }
}

Tensor<float> Scorer::original(std::size_t batch) const {
  return batch < original_.size() ? original_[batch] : log_probabilities(batches_[batch], *model_);
}

CompressionScore Scorer::operator()(const Module<float>& model, Scores* scores) const {
  return measure([&](std::size_t b) { return log_probabilities(batches_[b], model); }, scores);
}

CompressionScore Scorer::of_original(Scores* scores) const {
  return measure([&](std::size_t b) { return original(b); }, scores);
}

CompressionScore Scorer::measure(const std::function<Tensor<float>(std::size_t)>& found_on,
                                 Scores* scores) const {
  const NoGrad no_grad;
  const bool keeps = scores != nullptr && data_.has_scores();
  std::vector<float> outputs;
  double loss = 0;
  double divergence = 0;
  index_t rows = 0;
  for (std::size_t b = 0; b < batches_.size(); ++b) {
    const CompressionBatch& batch = batches_[b];
    const Tensor<float> found = found_on(b);
    const index_t width = found.dim(-1);
    if (keeps) outputs.insert(outputs.end(), found.data(), found.data() + found.size());
    rows += found.size() / width;
    if (batch.values.defined()) {
      const Tensor<float> error = sub(found, batch.values);
      loss += 0.5 * dot(error, error);
      if (model_ == nullptr) continue;
      const Tensor<float> change = sub(found, original(b));
      divergence += 0.5 * dot(change, change);
      continue;
    }
    for (index_t i = 0; i < batch.classes.size(); ++i) {
      loss -= static_cast<double>(found.data()[i * width + batch.classes.data()[i]]);
    }
    if (model_ == nullptr) continue;
    divergence += dot(exp(Var<float>(found)).value(), sub(found, original(b)));
  }
  if (rows == 0) throw InputError("compress: there is nothing to measure the model on");
  if (keeps) {
    *scores =
        data_.scores(Tensor<float>({rows, static_cast<index_t>(outputs.size()) / rows}, outputs));
  }
  divergence = std::max(0.0, divergence);  // not below it for rounding
  const auto count = static_cast<double>(rows);
  return {loss / count, divergence / count, divergence / static_cast<double>(sequences_)};
}

CompressionScore compression_score(const CompressionData& data, CompressionData::Part part,
                                   const Module<float>& model, const Module<float>* original) {
  return Scorer(data, part, original)(model);
}

index_t CompressionReport::weights_before() const {
  index_t sum = 0;
  for (const CompressedLayer& l : layers) sum += l.in * l.out;
  return sum;
}

index_t CompressionReport::weights_after() const {
  index_t sum = 0;
  for (const CompressedLayer& l : layers) sum += l.kept();
  return sum;
}

double CompressionReport::kept() const {
  return static_cast<double>(weights_after()) / static_cast<double>(weights_before());
}

std::string report_json(const CompressionReport& r) {
  Json json = {{"method", r.method},
               {"ratio", r.ratio},
               {"kept", r.kept()},
               {"weights_before", r.weights_before()},
               {"weights_after", r.weights_after()},
               {"parameters_before", r.parameters_before},
               {"parameters_after", r.parameters_after},
               {"before", of_score(r.before)},
               {"after", of_score(r.after)}};
  if (r.unrecovered) json["unrecovered"] = of_score(*r.unrecovered);
  if (!r.allocation.empty()) json["allocation"] = r.allocation;
  for (const auto& [name, value] : r.scores_before) json["before"][name] = value;
  for (const auto& [name, value] : r.scores_after) json["after"][name] = value;
  json["calibration"] = {{"sequences", r.calibration_sequences}, {"tokens", r.calibration_tokens}};
  json["seconds"] = r.seconds;
  json["remarks"] = r.remarks;
  Json layers = Json::array();
  for (const CompressedLayer& l : r.layers) {
    Json layer = {{"name", l.name}, {"group", l.group}, {"in", l.in}, {"out", l.out}};
    layer["rank"] = l.rank == 0 ? Json(nullptr) : Json(l.rank);
    layer["kept"] = static_cast<double>(l.kept()) / static_cast<double>(l.in * l.out);
    layers.push_back(layer);
  }
  json["layers"] = layers;
  if (!r.history.empty()) {
    Json evaluations = Json::array();
    for (const Evaluation& e : r.history) {
      Json shares = Json::object();
      for (std::size_t i = 0; i < r.groups.size(); ++i) {
        shares[r.groups[i]] = std::min(1.0, e.point[i]);
      }
      evaluations.push_back({{"shares", shares}, {"value", e.value}});
    }
    json["evaluations"] = evaluations;
  }
  return json.dump(2) + "\n";
}

void save_report(const CompressionReport& report, const std::string& path) {
  write_file_atomically(path, report_json(report));
}

}  // namespace parsimony
