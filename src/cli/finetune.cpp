// parsimony finetune: one run on one task. Several tasks or seeds are several runs side by side
// (finetune_many.cpp).
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/files.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/input_files.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "cli/adapter_flags.hpp"
#include "cli/finetune_many.hpp"
#include "cli/finetune_spectra.hpp"
#include "cli/language.hpp"
#include "io/nlohmann.hpp"
#include "lm/digests.hpp"

namespace parsimony::cli {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct FinetuneSettings {
  FinetuneOptions finetune;
  AdapterFlags adapter_flags;
  TaskSettings task;
  std::string model, out, seeds;
  bool no_replacement = false, spectra = false;
  index_t spectra_every = 0;
  bool resume = false, keep_checkpoint = false, json = false, quiet = false;
  double checkpoint_seconds = 20;
  int threads = threads_unset;
};

/// The run as an experiment without claims: folder, metrics, checkpoints and resume come with it.
class FinetuneJob : public Experiment {
 public:
  /// `weights`: the digest of the base's.
  FinetuneJob(const FinetuneSettings& s, const BaseModel& base, std::string weights,
              const EncodedTask& task, std::string name)
      : s_(s),
        base_(base),
        weights_(std::move(weights)),
        task_(task),
        examples_(digest_of(task)),
        name_(std::move(name)) {}

  ExperimentInfo info() const override { return {name_, "fine-tuning", "", {}}; }
  std::vector<ClaimStatement> claims() const override { return {}; }
  void preset(const std::string&, Config&) const override {}
  void declare(Config& c) const override {
    const FinetuneOptions& o = s_.finetune;
    c.declare("model", base_.name(), "base");
    c.declare("model_weights", weights_, "digest of the base's");
    c.declare("task", task_.task.name, "task");
    c.declare("examples", examples_, "digest of all examples");
    c.declare("train_examples", task_.train.size(), "after the filter by length");
    c.declare("dev_examples", task_.dev.size(), "after the filter by length");
    c.declare("max_length",
              is_image_task(s_.task) ? s_.task.max_length.value_or(128)
                                     : length_limit(base_, s_.task.max_length),
              "tokens");
    c.declare("method", o.method, "method");
    c.declare("targets", o.targets, "layers with adapters");
    if (has_adapters(o)) {
      const Config values = adapter_config(o.adapter);
      for (const auto& entry : values.entries()) {
        c.declare(entry.key, entry.value, entry.help);
      }
    }
    c.declare("train_head", o.train_head, "classifier and pooler train");
    c.declare("samples", o.samples, "0: all");
    c.declare("replacement", o.replacement, "samples are drawn with replacement");
    c.declare("steps", o.steps, "updates");
    c.declare("batch", o.batch, "examples");
    c.declare("lr", o.learning_rate, "learning rate");
    c.declare("warmup", o.warmup, "steps");
    c.declare("decay_ratio", o.decay_ratio, "learning rate after the last step over the first");
    c.declare("weight_decay", o.weight_decay, "AdamW's");
    c.declare("adam_eps", o.adam_eps, "AdamW's");
    c.declare("eval_every", o.eval_every, "0: at the end");
    c.declare("head_seed", static_cast<index_t>(o.head_seed), "of a fresh head");
    c.declare("spectra", s_.spectra, "log the spectra of the updates");
    c.declare("spectra_every", s_.spectra_every, "steps, 0: at the end");
  }

  void run(Run& run) const override {
    FinetuneOptions o = s_.finetune;
    o.seed = run.seed();
    const index_t dropped = task_.train.dropped + task_.dev.dropped;
    run.say(fmt::format("{}: {} training and {} dev examples{}", task_.task.name,
                        task_.train.size(), task_.dev.size(),
                        dropped == 0 ? ""
                                     : fmt::format(" ({} and {} too long)", task_.train.dropped,
                                                   task_.dev.dropped)));
    const Record& record = run.stage("finetune", [&](Stage& stage) {
      Spectra spectra(base_, task_.task, o);
      const Finetuned trained =
          finetune(stage, base_, task_, o, [&](index_t step, Model<float>& model) {
            const bool due = s_.spectra_every > 0 && step % s_.spectra_every == 0;
            if (s_.spectra && (due || step == o.steps)) spectra.log(stage, step, model);
          });
      save(run, o, trained);
    });
    write_result(run, record);
    figures(run, record);
  }

 private:
  void save(Run& run, const FinetuneOptions& o, const Finetuned& trained) const {
    if (o.method == "full") {
      const std::string folder = run.folder() + "/model";
      if (base_.config().type != "vit") base_.tokenizer().save(folder);
      save_task(task_.task, folder, lasting_name(base_));
      trained.model->save(folder);
      return;
    }
    const AdapterOptions adapter = has_adapters(o) ? adapter_options(o) : AdapterOptions{"none"};
    const std::string folder = run.folder() + "/adapter";
    save_task(task_.task, folder, lasting_name(base_));
    save_adapters<float>(*trained.model, folder, o.targets, adapter, trained.extras);
  }

  void write_result(Run& run, const Record& record) const {
    Json metrics = Json::object();
    for (const std::string& name : names()) {
      if (task_.dev.size() > 0) metrics[name] = record.last(name);
    }
    const Json json = {{"task", task_.task.name},
                       {"method", s_.finetune.method},
                       {"seed", run.seed()},
                       {"parameters", static_cast<index_t>(record.scalar("parameters"))},
                       {"steps", record.last_step()},
                       {"seconds", record.total_seconds()},
                       {"train_loss", record.last("train_loss")},
                       {"metrics", metrics}};
    write_file_atomically(run.folder() + "/result.json", json.dump(2) + "\n");
    for (const auto& [name, tensor] : record.tensors()) {
      run.array("spectrum." + name, cast<float>(tensor));
    }
    if (s_.spectra) {
      write_file_atomically(run.folder() + "/ranks.csv",
                            ranks_csv(record, base_, s_.finetune.method == "deep-lora"));
    }
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all{task_.task.metric};
    all.insert(all.end(), task_.task.other_metrics.begin(), task_.task.other_metrics.end());
    return all;
  }

  void figures(Run& run, const Record& record) const {
    Figure f;
    f.name = "training";
    f.title = "Training";
    f.caption = fmt::format("{} on {}.", s_.finetune.method, task_.task.name);
    Panel& loss = f.panel();
    loss.x_label = "step";
    loss.y_label = "training loss";
    loss.line("", record.steps("train_loss"), record.series("train_loss"));
    if (task_.dev.size() > 0 && record.series(task_.task.metric).size() > 1) {
      Panel& score = f.panel();
      score.x_label = "step";
      score.y_label = task_.task.metric;
      score.line("", record.steps(task_.task.metric), record.series(task_.task.metric));
    }
    if (s_.spectra && record.series("rank_mean").size() > 1) {
      Panel& ranks = f.panel();
      ranks.x_label = "step";
      ranks.y_label = "numerical rank";
      ranks.line("mean", record.steps("rank_mean"), record.series("rank_mean"));
      ranks.dashed("largest", record.steps("rank_max"), record.series("rank_max"));
    }
    run.figure(f);
  }

  const FinetuneSettings& s_;
  const BaseModel& base_;
  std::string weights_;
  const EncodedTask& task_;
  std::string examples_, name_;
};

int run_one(const FinetuneSettings& s) {
  const BaseModel base(s.model);
  check_output_folder(s.out, {base.folder(), s.task.train, s.task.dev});
  const EncodedTask task = load_encoded(s.task, base);
  const index_t samples = s.finetune.samples;
  if (!s.finetune.replacement && samples > task.train.size()) {
    throw ValueError(
        fmt::format("--samples: expected at most {}, for --no-replacement draws each "
                    "example once; got {}",
                    task.train.size(), samples));
  }
  // Loaded once more by the run; so a folder that is no model, and adapters that do not fit it, are
  // refused before anything is written.
  LoadReport report;
  const auto model = base.classifier(task.task, s.finetune.head_seed, &report);
  if (has_adapters(s.finetune)) check_adapters(*model, s.finetune);
  if (!s.quiet && !report.fresh.empty()) {
    std::fprintf(stderr, "fresh, because it is not in the model: %s\n",
                 parts_of(report.fresh).c_str());
  }
  if (!s.quiet) say_of_head(base, task.task, report);
  const fs::path out = fs::absolute(s.out).lexically_normal();
  const fs::path folder = out.has_filename() ? out : out.parent_path();
  RunOptions run;
  run.out = folder.parent_path().string();
  run.makes = {"adapter", "model", "result.json", "ranks.csv"};
  run.seed = s.finetune.seed;
  run.resume = s.resume;
  run.keep_checkpoint = s.keep_checkpoint;
  run.quiet = s.quiet;
  run.checkpoint_seconds = s.checkpoint_seconds;
  install_interrupt_handler();
  run_experiment(
      FinetuneJob(s, base, digest_of(model->named_parameters()), task, folder.filename().string()),
      run);
  const std::string text = read_file((folder / "result.json").string());
  if (s.json) {
    fmt::print("{}", text);
    return 0;
  }
  const Json result = Json::parse(text);
  fmt::print("{} on {}: {} trained numbers, {} steps in {:.1f} s\n",
             result["method"].get<std::string>(), result["task"].get<std::string>(),
             result["parameters"].get<index_t>(), result["steps"].get<index_t>(),
             result["seconds"].get<double>());
  for (const auto& [name, value] : result["metrics"].items()) {
    fmt::print("{:<10} {:.4f}\n", name, value.get<double>());
  }
  fmt::print("saved to {}\n", folder.string());
  return 0;
}

int run(FinetuneSettings& s) {
  check_checkpoint_seconds(s.checkpoint_seconds);
  s.finetune.replacement = !s.no_replacement;
  s.spectra = s.spectra || s.spectra_every > 0;
  if (s.spectra_every < 0) {
    throw ValueError(
        fmt::format("--spectra-every: expected 0 or more steps; got {}", s.spectra_every));
  }
  apply_threads(s.threads);
  end_with_parent();
  const auto is_list = [](const std::string& text) { return text.find(',') != std::string::npos; };
  s.finetune.adapter = given_adapter_options(s.adapter_flags);
  check_named(s.task);
  if (!s.seeds.empty() && s.finetune.seed != 0) {
    throw ValueError("--seed: has no effect beside --seeds, which names them all");
  }
  if (s.seeds.empty() && !is_list(s.task.task) && !is_list(s.finetune.method)) {
    check(s.finetune);
    s.finetune.adapter.method = s.finetune.method;
    if (!s.quiet) say_idle_options(s.finetune);
    if (has_adapters(s.finetune)) s.finetune.adapter = adapter_options(s.finetune);
    return run_one(s);
  }
  return finetune_many({s.task.task, s.finetune.method, s.seeds, s.out, s.json, s.quiet,
                        s.threads == threads_unset ? 0 : s.threads},
                       s.finetune);
}

}  // namespace

Command finetune_command() {
  auto s = std::make_shared<FinetuneSettings>();
  FinetuneOptions& o = s->finetune;
  Command c;
  c.name = "finetune";
  c.summary = "Train a model on a task, in full or through adapters";
  c.details =
      "Without --model the shipped tiny model is the base; --model takes any Hugging Face BERT, "
      "GPT-2, LLaMA or (for images) ViT folder. OUT is a run folder with metrics.csv, result.json "
      "and adapter/ (model/ for --method "
      "full). Defaults are the paper's few-shot settings. A run that is stopped, even by kill -9, "
      "goes on with --resume to the same bits. Several tasks (--task a,b), methods (--method "
      "deep-lora,lora) or seeds (--seeds 0-4) run side by side, each in its own folder below OUT, "
      "and end with a table; methods are compared by their differences on the same seeds.";
  c.examples = {
      "parsimony finetune --task synthetic --samples 256 --out runs/first",
      "parsimony finetune --task stsb,rte --samples 1024 --method deep-lora,lora --seeds 0-4 --out "
      "runs/few-shot",
      "parsimony finetune --model bert-base-cased --task rte --form compressed --lr 1e-2 --out "
      "runs/rte",
      "parsimony finetune --model scratch:vit-tiny-28x1 --task mnist --method full --steps 2000 "
      "--lr 1e-3 --samples 0 --out runs/mnist",
      "parsimony finetune --train mine.tsv --dev held-out.tsv --columns text,label --out "
      "runs/mine"};
  c.options = task_options(s->task, true);
  const std::vector<Option> more = {
      {"--model", "DIR",
       "model folder, or scratch:[FAMILY-]SIZE for fresh weights (the shipped tiny-en)", &s->model},
      {"--out", "DIR", "run folder", &s->out, true},
      {"--method", "M",
       fmt::format("{}, full or head (deep-lora)", fmt::join(adapter_methods(), ", ")), &o.method},
      {"--targets", "SET",
       "query-value, attention-mlp, all-linear, all-dense (default), or ends of layer names",
       &o.targets},
      {"--train-head", "", "train classifier and pooler too; the paper freezes them",
       &o.train_head},
      {"--samples", "N", "examples drawn from train (0: all)", &o.samples},
      {"--no-replacement", "", "draw each example at most once", &s->no_replacement},
      {"--steps", "N", "updates (500)", &o.steps},
      {"--batch", "N", "examples an update (16)", &o.batch},
      {"--lr", "X", "learning rate (1e-4)", &o.learning_rate},
      {"--warmup", "N", "steps that the rate rises (0)", &o.warmup},
      {"--decay-ratio", "X",
       "the rate falls to this share of itself after the last step (1: constant)", &o.decay_ratio},
      {"--weight-decay", "X", "AdamW's (0)", &o.weight_decay},
      {"--adam-eps", "X", "AdamW's (1e-6)", &o.adam_eps},
      {"--eval-every", "N", "steps between evaluations on dev (0: at the end)", &o.eval_every},
      {"--spectra", "",
       "log singular values and numerical rank of every update at the end (ranks.csv, "
       "arrays.safetensors)",
       &s->spectra},
      {"--spectra-every", "N", "the same every N steps", &s->spectra_every},
      {"--seed", "N", "samples, batches, dropout, adapters (0)", &o.seed},
      {"--seeds", "LIST", "several seeds, such as 0-4 or 1,5,7", &s->seeds},
      {"--head-seed", "N", "of a fresh head, the same for every seed (0)", &o.head_seed},
      {"--resume", "", "go on with the run in OUT", &s->resume},
      {"--keep", "", "keep the checkpoint of a run that is done", &s->keep_checkpoint},
      {"--checkpoint-seconds", "S", "time between checkpoints (20)", &s->checkpoint_seconds},
      threads_option(&s->threads),
      json_option(&s->json),
      quiet_option(&s->quiet)};
  c.options.insert(c.options.end(), more.begin(), more.end());
  const std::vector<Option> flags = adapter_flags(s->adapter_flags);
  c.options.insert(c.options.end(), flags.begin(), flags.end());
  c.action = [s] { return run(*s); };
  return c;
}

}  // namespace parsimony::cli
