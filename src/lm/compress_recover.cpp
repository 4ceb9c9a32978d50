#include "lm/compress_recover.hpp"

#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/fixed_subspace.hpp>
#include <parsimony/optim.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

using T = float;

/// LoRA on both factors, or Bolaco's scaling of some of the kept dimensions on the second.
void attach(Linear<T>& layer, const CompressOptions& o, const Rng& rng) {
  if (o.recover_method == "subspace") {
    constexpr index_t usual = 64;  // its authors'
    layer.expand().adapt(std::make_unique<FixedSubspace<T>>(
        layer.expand().weight.value(), o.recover_rank > 0 ? o.recover_rank : usual, rng));
    return;
  }
  constexpr index_t usual = 8;
  const index_t rank = std::min(o.recover_rank > 0 ? o.recover_rank : usual, layer.rank());
  AdapterOptions lora{"lora"};
  lora.set("init", "peft").set("rank", rank).set("alpha", static_cast<double>(rank));
  for (Linear<T>* factor : {&layer.reduce(), &layer.expand()}) {
    AdapterSite<T> site;
    site.weight = factor->weight.value();
    site.rng = rng.split(factor == &layer.reduce() ? "reduce" : "expand");
    factor->adapt(adapter_method<T>("lora").make(site, lora));
  }
}

}  // namespace

void recover_pairs(Module<T>& model, const std::vector<CompressibleLayer<T>>& layers,
                   const CompressionData& data, const CompressOptions& o,
                   const CompressionProgress& say) {
  const Rng rng = Rng(o.seed).split("recovery");
  const double rate = o.recover_rate > 0               ? o.recover_rate
                      : o.recover_method == "subspace" ? 1e-2
                                                       : 1e-3;
  model.set_requires_grad(false);
  for (const auto& l : layers) {
    if (l.layer->factored()) attach(*l.layer, o, rng.split(l.name));
  }
  AdamW<T> optimizer(trainable_groups<T>(model), rate);
  const LinearSchedule schedule{o.recover_steps / 20, o.recover_steps, 0.0};
  const index_t sequences = data.size(CompressionData::Part::calibration);
  constexpr index_t batch_size = 16;
  for (index_t step = 0; step < o.recover_steps; ++step) {
    const auto number = static_cast<std::uint64_t>(step);
    Rng draws = rng.split("rows").split(number);
    const std::vector<index_t> rows =
        draws.choose(sequences, std::min<index_t>(batch_size, sequences));
    const CompressionBatch batch =
        data.batch(CompressionData::Part::calibration, rows, rng.split("masks").split(number));
    Pass pass;
    const Var<T> out = batch.outputs(model, pass);
    const Var<T> loss = batch.values.defined() ? mean_squared_error(out, batch.values)
                                               : cross_entropy(out, batch.classes);
    if (!std::isfinite(static_cast<double>(loss.item()))) {
      throw NumericalError("recovery: the loss is not finite; try a smaller --recover-lr", step);
    }
    if (step % 10 == 0) {
      say(fmt::format("recovery {}/{}: {:.4f}", step, o.recover_steps,
                      static_cast<double>(loss.item())));
    }
    backward(loss);
    clip_gradients(model.named_parameters(), 1.0);
    optimizer.set_learning_rate(rate * schedule.factor(step));
    optimizer.step();
  }
  merge_adapters<T>(model);
}

}  // namespace parsimony
