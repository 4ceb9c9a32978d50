#include "cli/finetune_spectra.hpp"

#include <parsimony/error.hpp>
#include <parsimony/linalg.hpp>

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

namespace parsimony::cli {

namespace {

std::string kept_name(const std::string& module, index_t step) {
  return fmt::format("{}.t{}", module, step);
}

}  // namespace

const Tensor<float>& Spectra::initial(const std::string& weight) {
  if (initial_.empty()) {
    auto model = base_.classifier(task_, options_.head_seed);
    for (const auto& [name, var] : model->named_parameters()) initial_[name] = var.value();
  }
  return initial_.at(weight);
}

void Spectra::log(Stage& stage, index_t step, Model<float>& model) {
  double sum = 0;
  index_t count = 0;
  index_t largest = 0;
  for (const auto& [name, module] : model.named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<float>*>(module);
    if (layer == nullptr) continue;
    Tensor<float> spectrum;
    if (layer->adapter() != nullptr) {
      spectrum = update_spectrum(*layer->adapter());
    } else if (layer->weight.requires_grad()) {
      spectrum = singular_values(sub(layer->weight.value(), initial(name + ".weight")));
    } else {
      continue;
    }
    const Shape& shape = layer->weight.shape();
    const index_t rank = paper_rank(spectrum, std::max(shape[0], shape[1]), false);
    sum += static_cast<double>(rank);
    largest = std::max(largest, rank);
    ++count;
    stage.keep(kept_name(name, step), cast<double>(spectrum));
  }
  if (count == 0) return;
  stage.log(step, {{"rank_mean", sum / static_cast<double>(count)},
                   {"rank_max", static_cast<double>(largest)}});
}

std::string ranks_csv(const Record& record, const BaseModel& base, bool deep) {
  TextTask any;
  const auto model = base.classifier(any);
  std::vector<std::tuple<index_t, std::size_t, std::string>> rows;
  std::size_t place = 0;
  for (const auto& [module, pointer] : model->named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<float>*>(pointer);
    ++place;
    if (layer == nullptr) continue;
    const index_t side = std::max(layer->weight.dim(0), layer->weight.dim(1));
    for (const double at : record.steps("rank_mean")) {
      const auto step = static_cast<index_t>(at);
      const std::string name = kept_name(module, step);
      if (!record.has_tensor(name)) continue;
      const Tensor<float> s = cast<float>(record.tensor(name));
      rows.emplace_back(
          step, place,
          fmt::format("{},{},{},{},{:.9g}\n", step, module, paper_rank(s, side, false),
                      paper_rank(s, side, deep), s.data()[0]));
    }
  }
  std::sort(rows.begin(), rows.end());
  std::string csv = "step,module,rank,paper_rank,largest\n";
  for (const auto& row : rows) csv += std::get<2>(row);
  return csv;
}

}  // namespace parsimony::cli
