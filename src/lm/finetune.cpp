// One fine-tuning run: the model and what trains of it, the loop, and evaluation.
#include <parsimony/error.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/optim.hpp>

#include <algorithm>
#include <map>
#include <numeric>

#include <fmt/format.h>

namespace parsimony {

namespace {

using T = float;

TokenBatch tokens(const TextBatch& batch) {
  return {batch.ids, batch.type_ids, batch.mask, batch.pixels};
}

Var<T> loss_of(const Model<T>& model, const TextTask& task, const TextBatch& batch, Pass& pass) {
  const Var<T> out = model.logits(tokens(batch), pass);
  if (task.regression()) return mean_squared_error(out, batch.targets<T>());
  return cross_entropy(out, batch.classes());
}

/// The examples that a run trains on.
EncodedExamples training_examples(const EncodedTask& task, const FinetuneOptions& o,
                                  const Rng& rng) {
  if (o.samples == 0) return task.train;
  return select_rows(
      task.train, sample_rows(task.train.size(), o.samples, o.replacement, rng.split("samples")));
}

/// Freezes and adapts as the method says.
void prepare(Model<T>& model, const EncodedTask& task, const EncodedExamples& train,
             const TrainingBatches& batches, const FinetuneOptions& o, const Rng& rng) {
  if (o.method == "full") {
    model.set_requires_grad(true);
    return;
  }
  if (o.method == "head") {
    model.set_requires_grad(false);
  } else {
    const AdapterOptions options = adapter_options(o);
    const auto gradients = probe_gradients<T>(model, o.targets, options, rng.split("probe"), [&] {
      Pass pass;  // dropout off, on the first batch, which training sees again
      return loss_of(model, task.task, make_batch(train, batches.rows(0), task.pad_id), pass);
    });
    attach_adapters<T>(model, o.targets, options, rng.split("adapters"), gradients);
  }
  if (o.method == "head" || o.train_head) {
    for (auto& [name, var] : model.named_parameters()) {
      if (model.is_head(name)) var.set_requires_grad(true);
    }
  }
}

std::vector<std::string> extras_of(const Model<T>& model, const LoadReport& report) {
  std::vector<std::string> extras = report.fresh;
  for (const auto& [name, var] : model.named_parameters()) {
    if (model.is_head(name) && var.requires_grad()) extras.push_back(name);
  }
  std::sort(extras.begin(), extras.end());
  extras.erase(std::unique(extras.begin(), extras.end()), extras.end());
  return extras;
}

}  // namespace

void check(const FinetuneOptions& o) {
  const auto need = [](const char* option, auto got, bool ok, const char* what) {
    if (!ok) throw ValueError(fmt::format("{}: expected {}; got {}", option, what, got));
  };
  if (has_adapters(o)) {
    std::vector<std::string> names = adapter_methods();
    if (std::find(names.begin(), names.end(), o.method) == names.end()) {
      names.insert(names.end(), {"full", "head"});
      const std::string near = nearest_name(o.method, names);
      throw ValueError(fmt::format("method: expected one of {}; got '{}'{}", fmt::join(names, ", "),
                                   o.method, near.empty() ? "" : "; did you mean '" + near + "'?"));
    }
    const Config options = adapter_config(adapter_options(o));
    if (options.has("alpha")) {
      need("alpha", options.real("alpha"), options.real("alpha") > 0, "a scaling above 0");
    }
  } else if (!o.adapter.values.empty()) {
    throw ValueError(fmt::format("method {} has no adapters, and so no option '{}'", o.method,
                                 o.adapter.values.begin()->first));
  }
  need("samples", o.samples, o.samples >= 0 && o.samples <= 100000000,
       "0 (all) or more, at most 100 million");
  need("steps", o.steps, o.steps >= 1, "1 or more");
  need("batch", o.batch, o.batch >= 1, "1 or more");
  need("eval-every", o.eval_every, o.eval_every >= 0, "0 (at the end) or more steps");
  need("lr", o.learning_rate, o.learning_rate > 0, "a learning rate above 0");
  need("decay-ratio", o.decay_ratio, o.decay_ratio >= 0 && o.decay_ratio <= 1, "a ratio in [0, 1]");
  need("warmup", o.warmup, o.warmup >= 0 && o.warmup <= o.steps, "0 steps or more, at most all");
  need("weight-decay", o.weight_decay, o.weight_decay >= 0, "0 or more");
  need("adam-eps", o.adam_eps, o.adam_eps > 0, "a number above 0");
}

bool has_adapters(const FinetuneOptions& o) { return o.method != "full" && o.method != "head"; }

void check_adapters(Model<float>& model, const FinetuneOptions& o) {
  const AdapterOptions options = adapter_options(o);
  const AdapterMethod<T>& method = adapter_method<T>(o.method);
  const auto side = [](const AdapterTarget<T>& t) {
    const Shape& shape = t.layer->weight.shape();
    return std::min(shape[0], shape[1]);
  };
  const auto targets = adapter_targets<T>(model, o.targets);
  const AdapterTarget<T>* smallest = nullptr;
  for (const auto& t : targets) {
    // An embedding that a method has no form for is left out, if others remain.
    const bool fits = method.info.embeddings || !t.rows_are_inputs;
    if (fits && (smallest == nullptr || side(t) < side(*smallest))) smallest = &t;
  }
  if (smallest == nullptr) smallest = &targets.front();
  AdapterSite<T> site;
  site.weight = smallest->layer->weight.value();
  site.rows_are_inputs = smallest->rows_are_inputs;
  site.name = smallest->name;
  site.widest_in = site.in();
  site.widest_out = site.out();
  std::map<std::string, Tensor<T>> shared;
  site.shared = &shared;
  try {
    const index_t h = method.wants_gradient(options);
    if (h > 0) {
      const GradientProbe<T> probe(site.weight.shape(), h, Rng(0));
    } else {
      method.make(site, options);
    }
  } catch (const ValueError& e) {
    throw ValueError(fmt::format("{}: layer '{}' {}: {}", o.method, site.name,
                                 site.weight.shape().str(), e.what()));
  }
}

AdapterOptions adapter_options(const FinetuneOptions& o) {
  AdapterOptions options = o.adapter;
  options.method = o.method;
  const auto& declared = adapter_info(o.method).options;
  const bool seeded = std::any_of(declared.begin(), declared.end(),
                                  [](const auto& entry) { return entry.key == "basis_seed"; });
  if (seeded) options.values.emplace("basis_seed", static_cast<index_t>(o.seed));
  return options;
}

void check_pairs(const BaseModel& base, bool pairs) {
  if (!pairs || base.config().type_vocab_size != 1) return;
  throw InputError(fmt::format(
      "'{}': expected a model of pairs of texts; its type_vocab_size is 1, which has no "
      "second text",
      base.name()));
}

index_t length_limit(const BaseModel& base, std::optional<index_t> max_length) {
  if (base.config().type == "vit") {
    throw InputError(fmt::format("'{}': expected a model of texts for this task; got one of images",
                                 base.name()));
  }
  const index_t longest = base.config().max_position_embeddings;
  const index_t limit = max_length.value_or(std::min<index_t>(128, longest));
  if (limit < 0 || limit > longest) {
    throw ValueError(fmt::format(
        "--max-length: expected at most {}, the model's position table; got {}", longest, limit));
  }
  return limit > 0 ? limit : longest;
}

void use_classes_of(const std::vector<std::string>& model, EncodedTask& task) {
  const std::vector<index_t> places = places_of_labels(task.task.labels, model);
  const std::vector<std::string> labels = task.task.labels;
  for (std::size_t i = 0; i < places.size(); ++i) {
    task.task.labels[static_cast<std::size_t>(places[i])] = labels[i];
  }
  if (places.empty()) return;
  for (EncodedExamples* part : {&task.train, &task.dev}) {
    for (double& label : part->labels) {
      label = static_cast<double>(places[static_cast<std::size_t>(label)]);
    }
  }
}

EncodedTask encode_task(const BaseModel& base, const TextSplits& splits,
                        std::optional<index_t> max_length) {
  check_pairs(base, splits.task.pair);
  const index_t limit = length_limit(base, max_length);
  EncodedTask out;
  out.task = splits.task;
  out.pad_id = base.tokenizer().pad_id();
  out.train = encode_examples(base.tokenizer(), splits.task.pair, splits.train, limit);
  if (!splits.dev.empty()) {
    out.dev = encode_examples(base.tokenizer(), splits.task.pair, splits.dev, limit);
  }
  use_classes_of(base.config().labels, out);
  return out;
}

EncodedTask image_task(const BaseModel& base, const ImageSplits& splits) {
  const BaseConfig& c = base.config();
  const Tensor<float>& pixels = splits.train.pixels;
  const Shape image{c.num_channels, c.image_size, c.image_size};
  const Shape found{pixels.dim(1), pixels.dim(2), pixels.dim(3)};
  if (c.type != "vit" || image != found) {
    throw ValueError(fmt::format(
        "task {}: expected a ViT for images {}, such as scratch:vit-tiny-{}x{}; '{}' is a {}{}",
        splits.task.name, found.str(), pixels.dim(2), pixels.dim(1), base.name(), c.type,
        c.type == "vit" ? " for images " + image.str() : ""));
  }
  EncodedTask out{splits.task, splits.train, splits.dev, 0};
  use_classes_of(c.labels, out);
  return out;
}

Tensor<float> model_outputs(const Model<float>& model, const EncodedExamples& examples,
                            std::int32_t pad_id, index_t batch) {
  const NoGrad no_grad;
  return evaluate_by_length<float>(examples, batch, pad_id, [&](const TextBatch& b) {
    Pass pass;
    return model.logits(tokens(b), pass).value();
  });
}

std::vector<std::pair<std::string, double>> task_metrics(const TextTask& task,
                                                         const Tensor<float>& outputs,
                                                         const std::vector<double>& labels) {
  const std::vector<double> predicted = predictions(task, outputs);
  std::vector<std::pair<std::string, double>> out{
      {task.metric, metric(task.metric, predicted, labels)}};
  for (const std::string& name : task.other_metrics) {
    out.emplace_back(name, metric(name, predicted, labels));
  }
  return out;
}

Finetuned finetune(Stage& stage, const BaseModel& base, const EncodedTask& task,
                   const FinetuneOptions& o, const FinetuneObserver& observe) {
  check(o);
  const Rng rng(o.seed);
  const EncodedExamples train = training_examples(task, o, rng);
  const TrainingBatches batches(train.size(), o.batch, rng.split("batches"));

  Finetuned result;
  LoadReport report;
  result.model = base.classifier(task.task, o.head_seed, &report);
  Model<T>& model = *result.model;
  prepare(model, task, train, batches, o, rng);
  result.extras = extras_of(model, report);

  auto groups = trainable_groups(model);
  for (auto& group : groups) group.weight_decay = o.weight_decay;
  AdamW<T> optimizer(groups, o.learning_rate, 0.9, 0.999, o.adam_eps);
  const LinearSchedule schedule{o.warmup, o.steps, o.decay_ratio};
  for (const auto& group : groups) stage.track(group.parameters);
  for (const auto& [name, tensor] : optimizer.state()) stage.track(name, tensor);
  stage.track("optimizer.steps", optimizer.counter());
  stage.keep("parameters", static_cast<double>(model.parameter_count()));

  stage.loop(o.steps, [&](index_t step) {
    const bool last = step == o.steps;
    if (observe) stage.off_clock([&] { observe(step, model); });
    if (task.dev.size() > 0 && (last || (o.eval_every > 0 && step % o.eval_every == 0))) {
      stage.off_clock([&] {
        stage.log(step, task_metrics(task.task, model_outputs(model, task.dev, task.pad_id),
                                     task.dev.labels));
      });
    }
    if (last) return Stage::stop;
    const TextBatch batch = make_batch(train, batches.rows(step), task.pad_id);
    Pass pass(rng.split("dropout").split(static_cast<std::uint64_t>(step)));
    const Var<T> loss = loss_of(model, task.task, batch, pass);
    stage.log(step, {{"train_loss", stage.finite("train_loss", static_cast<double>(loss.item()))}});
    backward(loss);
    optimizer.set_learning_rate(o.learning_rate * schedule.factor(step));
    optimizer.step();
    return Stage::go_on;
  });
  return result;
}

}  // namespace parsimony
