// PC-LoRA on a model: a student whose weights decay, taught by the model as it was.
#include <parsimony/compress.hpp>
#include <parsimony/error.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/pc_lora.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "lm/compress_score.hpp"

namespace parsimony {

namespace {

using T = float;
using Part = CompressionData::Part;

/// The rows of a block's output that count.
Var<T> counted(const Var<T>& block, const CompressionBatch& batch) {
  const index_t width = block.dim(-1);
  const index_t rows = block.value().size() / width;
  if (!batch.tokens.defined() || rows != batch.places) return block;
  return gather_rows(reshape(block, {rows, width}), batch.tokens);
}

struct Losses {
  Var<T> total;
  double task = 0, blocks = 0, logits = 0;
};

/// a · task + (1 - a) · (v · mean over blocks of the mean squared error + w · divergence of the
/// outputs from the teacher's).
Losses losses(const CompressionBatch& batch, const Module<T>& student, const Module<T>& teacher,
              const PcLoraOptions& o) {
  std::vector<Var<T>> taught;
  Tensor<T> target;
  {
    const NoGrad no_grad;
    Pass pass;
    pass.watch(taught);
    target = batch.outputs(teacher, pass).value();
  }
  std::vector<Var<T>> learnt;
  Pass pass;
  pass.watch(learnt);
  const Var<T> out = batch.outputs(student, pass);
  if (taught.size() != learnt.size() || taught.empty()) {
    throw ValueError("pc-lora: the model does not show its blocks");
  }
  Var<T> blocks;
  for (std::size_t i = 0; i < taught.size(); ++i) {
    const Var<T> error =
        mean_squared_error(counted(learnt[i], batch), counted(taught[i], batch).value());
    blocks = blocks.defined() ? add(blocks, error) : error;
  }
  blocks = scale(blocks, 1.0 / static_cast<double>(taught.size()));
  Var<T> task;
  Var<T> logits;
  if (batch.values.defined()) {
    task = mean_squared_error(out, batch.values);
    logits = mean_squared_error(out, target);
  } else {
    task = cross_entropy(out, batch.classes);
    const Var<T> log_target(log_softmax(Var<T>(target)).value());
    const Var<T> p(exp(log_target).value());
    const auto rows = static_cast<double>(target.size() / target.dim(-1));
    logits = scale(sum(mul(p, sub(log_target, log_softmax(out)))), 1.0 / rows);
  }
  const double a = o.task_weight;
  Losses found;
  found.total =
      add(scale(task, a),
          scale(add(scale(blocks, o.feature_weight), scale(logits, o.logit_weight)), 1.0 - a));
  found.task = static_cast<double>(task.item());
  found.blocks = static_cast<double>(blocks.item());
  found.logits = static_cast<double>(logits.item());
  return found;
}

FactoredRanks ranks_of(const std::vector<CompressibleLayer<T>>& layers, const PcLoraOptions& o) {
  FactoredRanks ranks;
  if (o.rank == 0) uniform_share(layers, {}, o.ratio);  // can it be reached
  for (const auto& l : layers) {
    const index_t in = l.layer->in();
    const index_t out = l.layer->out();
    ranks[l.name] = o.rank == 0 ? rank_for_share(o.ratio, in, out) : o.rank;
    if (o.rank > std::min(in, out) || pair_size(ranks[l.name], in, out) >= in * out) {
      throw ValueError(fmt::format(
          "rank: expected less than {}, from which '{}' ({}, {}) would not become smaller; got {}",
          (in * out + in + out - 1) / (in + out), l.name, out, in, o.rank));
    }
  }
  return ranks;
}

/// B of N(0, 1/r), with which B A has the variance of a fresh dense layer, 1/(3 in). Where no
/// weight is left to start from, B = 0 is a saddle: of two such layers in a row neither has a
/// gradient.
void draw_up(const std::vector<CompressibleLayer<T>>& layers, const Rng& rng) {
  for (const auto& l : layers) {
    auto& pair = dynamic_cast<PcLora<T>&>(*l.layer->adapter());
    const Shape& shape = pair.up.shape();
    pair.up.assign(
        rng.split(l.name).normal<T>(shape, 1 / std::sqrt(static_cast<double>(shape[1]))));
  }
}

index_t count(const Module<T>& model) {
  index_t sum = 0;
  for (const auto& [name, var] : model.named_parameters()) sum += var.value().size();
  return sum;
}

}  // namespace

void check(const PcLoraOptions& o) {
  const auto need = [](bool ok, const std::string& what) {
    if (!ok) throw ValueError("pc-lora: expected " + what);
  };
  decay_factor(o.decay, 0);
  need(o.ratio > 0 && o.ratio < 1, fmt::format("a ratio in (0, 1); got {}", o.ratio));
  need(o.rank >= 0, fmt::format("a rank of at least 1; got {}", o.rank));
  need(o.decay_end >= 0 && o.decay_end <= 1,
       fmt::format("the end of the decay in [0, 1]; got {}", o.decay_end));
  need(o.task_weight >= 0 && o.task_weight <= 1 && o.feature_weight >= 0 && o.logit_weight >= 0,
       "a weight of the task in [0, 1] and weights of features and logits of at least 0");
  need(o.steps >= 1 && o.batch >= 1 && o.eval_every >= 0, "steps and batch of at least 1");
  need(o.learning_rate > 0 && o.weight_decay >= 0 && o.clip >= 0 && o.warmup >= 0 && o.warmup <= 1,
       "a learning rate above 0, weight decay and clip of at least 0, a warm-up in [0, 1]");
}

Compressed compress_pc_lora(Stage& stage, const CompressionData& data, const PcLoraOptions& o) {
  check(o);
  const Rng rng(o.seed);
  const std::unique_ptr<Module<T>> teacher = data.load();
  teacher->set_requires_grad(false);
  std::unique_ptr<Module<T>> owned = data.load();
  Module<T>& student = *owned;
  const auto layers = compressible_layers(student);
  if (layers.empty()) {
    throw InputError("pc-lora: the model has no linear layers of attention or MLP");
  }
  require_dense(layers);
  const index_t before = count(student);
  attach_pc_lora(student, ranks_of(layers, o), rng.split("adapters"));
  if (o.decay_end == 0) draw_up(layers, rng.split("B"));
  for (auto& [name, var] : student.named_parameters()) {
    if (data.trains(name)) var.set_requires_grad(true);
  }
  NamedParameters<T> trained;
  for (const auto& [name, var] : student.named_parameters()) {
    if (var.requires_grad()) trained.emplace_back(name, var);
  }
  AdamW<T> optimizer(one_group(trained, o.weight_decay), o.learning_rate);
  const LinearSchedule schedule{static_cast<index_t>(o.warmup * static_cast<double>(o.steps)),
                                o.steps, 0.0};
  stage.track(trained);
  for (const auto& [name, tensor] : optimizer.state()) stage.track(name, tensor);
  stage.track("optimizer.steps", optimizer.counter());

  const index_t end =
      o.decay_end == 0
          ? 0
          : std::max<index_t>(1, std::llround(o.decay_end * static_cast<double>(o.steps)));
  const index_t sequences = data.size(Part::calibration);
  const Scorer test(data, Part::test, teacher.get());
  Scores scores_at_first;
  const CompressionScore at_first = test.of_original(&scores_at_first);
  CompressionScore last;
  Scores last_scores;
  bool dropped = false;
  stage.loop(o.steps, [&](index_t step) {
    // λ is a function of the step, so a resumed run goes on where it was.
    if (!dropped && step >= end) {
      drop_bases(student);
      dropped = true;
    }
    const double share =
        dropped ? 0.0 : decay_factor(o.decay, static_cast<double>(step) / static_cast<double>(end));
    if (step == o.steps || step == end || (o.eval_every > 0 && step % o.eval_every == 0)) {
      stage.off_clock([&] {
        set_base_share(student, 0);
        last = test(student, &last_scores);
        auto row = last_scores;
        row.emplace_back("test_loss", last.loss);
        row.emplace_back("test_divergence", last.divergence);
        stage.log(step, row);
      });
    }
    if (step == o.steps) return Stage::stop;
    set_base_share(student, share);
    const auto number = static_cast<std::uint64_t>(step);
    Rng draws = rng.split("rows").split(number);
    const CompressionBatch batch =
        data.batch(Part::calibration, draws.choose(sequences, std::min(sequences, o.batch)),
                   rng.split("masks").split(number));
    const Losses l = losses(batch, student, *teacher, o);
    stage.log(step,
              {{"train_loss", stage.finite("train_loss", static_cast<double>(l.total.item()))},
               {"task", l.task},
               {"blocks", l.blocks},
               {"logits", l.logits},
               {"share", share}});
    backward(l.total);
    if (o.clip > 0) clip_gradients(trained, o.clip);
    optimizer.set_learning_rate(o.learning_rate * schedule.factor(step));
    optimizer.step();
    return Stage::go_on;
  });

  if (!dropped) drop_bases(student);
  CompressionReport report;
  report.method = "pc-lora";
  report.ratio = o.ratio;
  for (const auto& l : layers) {
    report.layers.push_back({l.name, l.group, l.layer->in(), l.layer->out(), l.layer->rank()});
  }
  report.parameters_before = before;
  report.parameters_after = count(student);
  report.before = at_first;
  report.after = last;
  report.scores_before = scores_at_first;
  report.scores_after = last_scores;
  report.calibration_sequences = sequences;
  report.seconds = stage.seconds();
  report.remarks = data.remarks;
  return {std::move(owned), report};
}

}  // namespace parsimony
