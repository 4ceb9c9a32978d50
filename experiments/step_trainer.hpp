// Training steps to be timed, for experiments on what a method costs.
#pragma once

#include <parsimony/optim.hpp>

#include <chrono>
#include <ctime>

#include "lm_support.hpp"

namespace parsimony::lab {

/// A model with adapters that trains on one batch of random tokens.
class StepTrainer {
 public:
  /// Reads targets, batch and length of the settings.
  StepTrainer(const BaseModel& base, const AdapterOptions& options, const Config& c) : rng_(0) {
    TextTask task;
    task.metric = "pearson";
    model_ = base.classifier(task);
    const index_t batch = c.integer("batch", 1, 1 << 20);
    const index_t length = c.integer("length", 8, base.config().max_position_embeddings);
    tokens_.ids = Tensor<std::int64_t>({batch, length});
    tokens_.type_ids = Tensor<std::int64_t>::zeros({batch, length});
    Rng draw = rng_.split("tokens");
    std::int64_t* ids = tokens_.ids.mutable_data();
    for (index_t i = 0; i < batch * length; ++i) ids[i] = draw.below(base.config().vocab_size);
    const std::string& targets = c.text("targets");
    const auto gradients =
        probe_gradients<float>(*model_, targets, options, rng_.split("probe"), [&] {
          Pass pass;
          return loss(pass);
        });
    attach_adapters<float>(*model_, targets, options, rng_.split("adapters"), gradients);
    optimizer_ = std::make_unique<AdamW<float>>(trainable_groups(*model_), 1e-4, 0.9, 0.999, 1e-6);
  }

  /// What a step took, in milliseconds: on the clock, and of processor time in all threads.
  struct Time {
    double wall = 0, processor = 0;
  };
  /// One update with dropout.
  Time step() {
    const auto began = std::chrono::steady_clock::now();
    const std::clock_t before = std::clock();
    Pass pass(rng_.split(static_cast<std::uint64_t>(steps_++)));
    backward(loss(pass));
    optimizer_->step();
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - began;
    return {1e3 * wall.count(), 1e3 * static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC};
  }

  Model<float>& model() { return *model_; }

 private:
  Var<float> loss(Pass& pass) const {
    const Var<float> out = model_->logits(tokens_, pass);
    return mean_squared_error(out, Tensor<float>::ones(out.shape()));
  }

  Rng rng_;
  std::unique_ptr<Model<float>> model_;
  TokenBatch tokens_;
  std::unique_ptr<AdamW<float>> optimizer_;
  index_t steps_ = 0;
};

}  // namespace parsimony::lab
