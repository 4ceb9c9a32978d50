// parsimony compress: a model folder whose linear layers are low-rank pairs.
#include <parsimony/compress.hpp>
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/files.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <unistd.h>

#include "cli/language.hpp"

namespace parsimony::cli {

namespace {

namespace fs = std::filesystem;

struct CompressSettings {
  CompressOptions plain;
  PcLoraOptions trained;
  CompressionSource source;
  TaskSettings task;
  std::string out, dense = "v";
  std::optional<index_t> sequences;
  std::uint64_t seed = 0;
  bool resume = false, json = false, quiet = false;
  double checkpoint_seconds = 20;
  int threads = threads_unset;
};

/// Progress on one line of a terminal, remarks on lines of their own.
class Progress {
 public:
  explicit Progress(bool quiet) : live_(!quiet && isatty(STDERR_FILENO) == 1) {}
  ~Progress() {
    if (shown_) std::fputs("\r\033[K", stderr);
  }
  void operator()(const std::string& line) {
    if (!live_) return;
    fmt::print(stderr, "\r\033[K{}", line);
    std::fflush(stderr);
    shown_ = true;
  }

 private:
  bool live_;
  bool shown_ = false;
};

/// Ranks of a group: "12" or "8-17", "dense" if all its layers are.
std::string ranks_of(const CompressionReport& r, const std::string& group) {
  index_t low = 0;
  index_t high = 0;
  for (const CompressedLayer& l : r.layers) {
    if (l.group != group || l.rank == 0) continue;
    low = low == 0 ? l.rank : std::min(low, l.rank);
    high = std::max(high, l.rank);
  }
  if (high == 0) return "dense";
  return low == high ? std::to_string(low) : fmt::format("{}-{}", low, high);
}

std::string table(const CompressionReport& r, const std::string& measure) {
  std::string out =
      fmt::format("{:<8}{:>8}{:>12}{:>12}{:>10}\n", "group", "layers", "rank", "weights", "kept");
  std::vector<std::string> groups;
  for (const CompressedLayer& l : r.layers) {
    if (std::find(groups.begin(), groups.end(), l.group) == groups.end()) groups.push_back(l.group);
  }
  for (const std::string& group : groups) {
    index_t layers = 0;
    index_t before = 0;
    index_t after = 0;
    for (const CompressedLayer& l : r.layers) {
      if (l.group != group) continue;
      ++layers;
      before += l.in * l.out;
      after += l.kept();
    }
    out += fmt::format("{:<8}{:>8}{:>12}{:>12}{:>9.1f}%\n", group, layers, ranks_of(r, group),
                       after, 100.0 * static_cast<double>(after) / static_cast<double>(before));
  }
  out += fmt::format("{:<8}{:>8}{:>12}{:>12}{:>9.1f}%\n\n", "all", r.layers.size(), "",
                     r.weights_after(), 100.0 * r.kept());
  out += fmt::format("{:<34}{:>12}{:>12}\n", "", "before", "after");
  const auto row = [&](const std::string& name, double before, double after) {
    out += fmt::format("{:<34}{:>12.4f}{:>12.4f}\n", name, before, after);
  };
  row("loss", r.before.loss, r.after.loss);
  if (!measure.empty()) row(measure, std::exp(r.before.loss), std::exp(r.after.loss));
  if (r.unrecovered) {
    out += fmt::format("{:<34}{:>12}{:>12.4f}\n", "loss before recovery", "", r.unrecovered->loss);
  }
  row(fmt::format("KL from the original, nats/{}", measure.empty() ? "example" : "token"),
      r.before.divergence, r.after.divergence);
  for (std::size_t i = 0; i < r.scores_before.size() && i < r.scores_after.size(); ++i) {
    row(r.scores_before[i].first, r.scores_before[i].second, r.scores_after[i].second);
  }
  out += fmt::format("{:<34}{:>12}{:>12}\n", "parameters", r.parameters_before, r.parameters_after);
  return out;
}

/// PC-LoRA's training as an experiment without claims: folder, metrics, checkpoints and resume.
class PcLoraJob : public Experiment {
 public:
  PcLoraJob(const CompressSettings& s, const CompressionData& data, std::string name)
      : s_(s), data_(data), name_(std::move(name)) {}

  ExperimentInfo info() const override { return {name_, "PC-LoRA", "", {}}; }
  std::vector<ClaimStatement> claims() const override { return {}; }
  void preset(const std::string&, Config&) const override {}
  void declare(Config& c) const override {
    const PcLoraOptions& o = s_.trained;
    c.declare("model", s_.source.model, "base");
    c.declare("adapter", s_.source.adapter, "merged first");
    c.declare("task", s_.task.task + s_.task.train, "task, or its table");
    c.declare("text", fmt::format("{}", fmt::join(s_.source.calibration, ", ")), "text files");
    c.declare("sequences", s_.source.sequences, "most for training");
    c.declare("length", s_.source.length, "tokens");
    c.declare("ratio", o.ratio, "weights kept");
    c.declare("rank", o.rank, "0: by the ratio");
    c.declare("decay", o.decay, "schedule");
    c.declare("decay_end", o.decay_end, "share of the steps");
    c.declare("task_weight", o.task_weight, "of the task's loss");
    c.declare("feature_weight", o.feature_weight, "of the blocks' squared error");
    c.declare("logit_weight", o.logit_weight, "of the outputs' divergence");
    c.declare("steps", o.steps, "updates");
    c.declare("batch", o.batch, "sequences");
    c.declare("lr", o.learning_rate, "learning rate");
    c.declare("weight_decay", o.weight_decay, "AdamW's");
    c.declare("eval_every", o.eval_every, "steps");
  }

  void run(Run& run) const override {
    PcLoraOptions o = s_.trained;
    o.seed = run.seed();
    const Record& record = run.stage("pc-lora", [&](Stage& stage) {
      const Compressed c = compress_pc_lora(stage, data_, o);
      data_.save(*c.model, s_.out);
      save_report(c.report, s_.out + "/compression.json");
      write_file_atomically(run.folder() + "/table.txt", table(c.report, data_.measure()));
    });
    Figure f;
    f.name = "training";
    f.title = "PC-LoRA";
    f.caption = "Training loss with the decaying weights, and test loss without them.";
    Panel& loss = f.panel();
    loss.x_label = "step";
    loss.y_label = "loss";
    loss.line("training", record.steps("train_loss"), record.series("train_loss"));
    loss.line("test, final form", record.steps("test_loss"), record.series("test_loss"));
    Panel& share = f.panel();
    share.x_label = "step";
    share.y_label = "share of the weights";
    share.line("", record.steps("share"), record.series("share"));
    run.figure(f);
  }

 private:
  const CompressSettings& s_;
  const CompressionData& data_;
  std::string name_;
};

/// Options of the other kind of method. @throws ValueError on one that is given.
void check_options_of(const CompressSettings& s) {
  const auto only = [&](bool left_alone, const char* option, const char* methods) {
    if (left_alone) return;
    throw ValueError(
        fmt::format("{}: of {}; method {} has no use for it", option, methods, s.plain.method));
  };
  if (s.plain.method == "pc-lora") {
    const CompressOptions d;
    const CompressOptions& o = s.plain;
    const char* others = "bolaco, svd and asvd";
    only(o.group == d.group, "--group", "bolaco");
    only(o.allocation.empty(), "--allocation", others);
    only(o.evaluations == d.evaluations, "--evaluations", others);
    only(o.kl_weight == d.kl_weight, "--kl-weight", others);
    only(o.multiple == d.multiple, "--multiple", others);
    only(o.recover_steps == d.recover_steps, "--recover", others);
    if (s.trained.rank > 0 && o.ratio != d.ratio) {
      throw ValueError("expected --rank or --ratio, not both");
    }
    return;
  }
  const PcLoraOptions d;
  const PcLoraOptions& o = s.trained;
  only(o.rank == d.rank, "--rank", "pc-lora");
  only(o.decay == d.decay, "--decay", "pc-lora");
  only(o.decay_end == d.decay_end, "--decay-end", "pc-lora");
  only(o.task_weight == d.task_weight, "--task-weight", "pc-lora");
  only(o.feature_weight == d.feature_weight, "--feature-weight", "pc-lora");
  only(o.logit_weight == d.logit_weight, "--logit-weight", "pc-lora");
  only(o.steps == d.steps, "--steps", "pc-lora");
  only(o.batch == d.batch, "--batch", "pc-lora");
  only(o.learning_rate == d.learning_rate, "--lr", "pc-lora");
  only(o.weight_decay == d.weight_decay, "--weight-decay", "pc-lora");
  only(o.eval_every == d.eval_every, "--eval-every", "pc-lora");
}

std::unique_ptr<CompressionData> data_of(CompressSettings& s) {
  const bool task = !s.task.task.empty() || !s.task.train.empty();
  if (task && !s.source.calibration.empty()) {
    throw ValueError("expected --calibration FILES or a task (--task, --train), not both");
  }
  if (task && !s.source.tokenizer.empty()) throw ValueError("--tokenizer: expected text with it");
  if (is_image_task(s.task)) return image_compression(s.source, load_images(s.task));
  if (task) return task_compression(s.source, load_splits(s.task), s.task.max_length);
  if (s.source.calibration.empty()) {
    throw ValueError("expected --calibration FILES (plain text), or --task NAME for a classifier");
  }
  if (!s.source.adapter.empty()) throw ValueError("--adapter: expected a task with it");
  return text_compression(s.source);
}

/// The folder, absolute. @throws ValueError if it is the model's own.
std::string output_folder(const CompressSettings& s) {
  const fs::path out = fs::absolute(s.out).lexically_normal();
  const fs::path folder = out.has_filename() ? out : out.parent_path();
  const fs::path given(s.source.model);
  const fs::path own = fs::is_regular_file(given) ? fs::absolute(given).parent_path() : given;
  if (!s.source.model.empty()) {
    check_model_output(folder.string(), {own.string(), (own / "model").string()});
  }
  return folder.string();
}

/// Before the work, not after it. Leaves nothing. @throws IoError.
void check_takes_files(const std::string& folder) {
  const bool there = fs::exists(folder);
  make_folders(folder);
  { const AtomicFile probe((fs::path(folder) / "compression.json").string()); }
  std::error_code error;
  if (!there) fs::remove(folder, error);
}

void finish(const CompressSettings& s, const std::string& text) {
  if (s.json) {
    fmt::print("{}", read_file(s.out + "/compression.json"));
    return;
  }
  fmt::print("{}\nsaved to {}\n", text, s.out);
}

int run(CompressSettings& s) {
  apply_threads(s.threads);
  check_checkpoint_seconds(s.checkpoint_seconds);
  const bool trains = s.plain.method == "pc-lora";
  s.trained.ratio = s.plain.ratio;
  s.plain.dense.clear();
  for (std::size_t at = 0; at <= s.dense.size() && s.dense != "none";) {
    const std::size_t comma = std::min(s.dense.find(',', at), s.dense.size());
    s.plain.dense.push_back(s.dense.substr(at, comma - at));
    at = comma + 1;
  }
  s.plain.seed = s.seed;
  if (trains) {
    check(s.trained);
  } else {
    check(s.plain);
    if (s.resume) throw ValueError("--resume: expected --method pc-lora, the one that trains");
  }
  check_options_of(s);
  if (!s.source.adapter.empty()) {
    const AdapterSource adapter(s.source.adapter);
    if (adapter.peft) {
      throw InputError(
          fmt::format("'{}': expected an adapter of finetune's; got PEFT's: parsimony merge "
                      "--adapter {} --out DIR "
                      "makes a model of it",
                      s.source.adapter, s.source.adapter));
    }
    s.source.model = base_for(s.source.model, adapter);
    s.source.adapter = adapter.folder;
    if (adapter.task) s.source.labels = adapter.task->labels;
  }
  s.out = output_folder(s);
  s.source.sequences = s.sequences.value_or(trains ? 1 << 20 : 256);
  if (s.source.sequences < 1) {
    throw ValueError(fmt::format("--sequences: expected 1 or more; got {}", s.source.sequences));
  }
  if (s.source.windows < 1) {
    throw ValueError(fmt::format("--windows: expected 1 or more; got {}", s.source.windows));
  }
  install_interrupt_handler();
  const std::unique_ptr<CompressionData> data = data_of(s);
  check_takes_files(s.out);
  if (trains) {
    make_folders(s.out);
    RunOptions run;
    run.out = s.out;
    run.seed = s.seed;
    run.resume = s.resume;
    run.quiet = s.quiet;
    run.checkpoint_seconds = s.checkpoint_seconds;
    run_experiment(PcLoraJob(s, *data, "training"), run);
    finish(s, read_file(s.out + "/training/table.txt"));
    return 0;
  }
  Compressed c;
  {
    Progress progress(s.quiet);
    c = compress(*data, s.plain, [&](const std::string& line) { progress(line); });
  }
  if (!s.quiet) {
    for (const std::string& remark : c.report.remarks) fmt::print(stderr, "{}\n", remark);
  }
  data->save(*c.model, s.out);
  save_report(c.report, s.out + "/compression.json");
  finish(s, table(c.report, data->measure()));
  return 0;
}

}  // namespace

Command compress_command() {
  auto s = std::make_shared<CompressSettings>();
  CompressOptions& o = s->plain;
  PcLoraOptions& t = s->trained;
  Command c;
  c.name = "compress";
  c.summary = "Replace the linear layers of a trained model by low-rank pairs";
  c.details =
      "OUT is a model folder that loads wherever a model does, with fewer parameters and less "
      "work. "
      "--ratio is the share of the weights of attention and MLP that is kept. bolaco (default) "
      "projects each layer's outputs onto their principal components over calibration text, and "
      "shares the budget among groups of layers by Bayesian optimisation of perplexity; svd and "
      "asvd "
      "are the baselines, with uniform shares. pc-lora trains: the weights decay to nothing while "
      "pairs take over, taught by the model as it was; it can be stopped, even by kill -9, and "
      "goes "
      "on with --resume. A language model needs text (--calibration): a BERT's loss is "
      "that of masked tokens, a GPT-2's or LLaMA's that of each next one. A classifier needs its "
      "task (--task, or --train and --dev), a ViT one of images. OUT/compression.json has ranks "
      "and losses.";
  c.examples = {
      "parsimony compress --ratio 0.5 --calibration books.txt --out small",
      "parsimony compress --method svd --ratio 0.5 --calibration books.txt --out small-svd",
      "parsimony compress --model stories260k --calibration stories.txt --recover 100 --out small",
      "parsimony compress --method pc-lora --ratio 0.1 --model runs/sst2 --task sst2 --out small2",
      "parsimony compress --method pc-lora --ratio 0.1 --model runs/vit --task optdigits --out vit",
      "parsimony evaluate --model small2 --task sst2"};
  c.options = {
      {"--method", "M", "bolaco (default), svd, asvd or pc-lora", &o.method},
      {"--ratio", "R", "share of the weights kept, in (0, 1) (0.5)", &o.ratio},
      {"--model", "DIR", "model folder, or a llama2.c .bin (the shipped tiny-en)",
       &s->source.model},
      {"--tokenizer", "PATH", "of a GPT-2 or LLaMA that has none beside it", &s->source.tokenizer},
      {"--adapter", "DIR", "adapter folder that is merged first, for a task", &s->source.adapter},
      {"--out", "DIR", "folder of the compressed model", &s->out, true},
      {"--calibration", "FILE", "text files (UTF-8): calibration, allocation and test share none",
       &s->source.calibration, false, true},
      {"--sequences", "N", "calibration sequences (256; pc-lora: all)", &s->sequences},
      {"--length", "N", "tokens a sequence of text (128)", &s->source.length},
      {"--windows", "N", "sequences for the allocation, and as many for the test (64)",
       &s->source.windows},
      {"--group", "N", "bolaco: sequences a group of the pooled covariance (32)", &o.group},
      {"--dense", "LIST", "groups left dense: qk, v, o, gate, up, down, or none (v)", &s->dense},
      {"--allocation", "A", "bayes (bolaco's default), uniform (the others') or random",
       &o.allocation},
      {"--evaluations", "N", "of the search (50)", &o.evaluations},
      {"--kl-weight", "X", "of the KL divergence beside the perplexity (1e-3)", &o.kl_weight},
      {"--multiple", "N", "ranks are multiples of N where the share has one (1)", &o.multiple},
      {"--recover", "N", "updates of adapters on the pairs afterwards, merged into them (0)",
       &o.recover_steps},
      {"--recover-method", "M",
       "lora (default) on both factors, or subspace: scales of some kept dimensions",
       &o.recover_method},
      {"--recover-rank", "N", "its rank (8), or dimensions (64)", &o.recover_rank},
      {"--recover-lr", "X", "its learning rate (1e-3; subspace: 1e-2)", &o.recover_rate},
      {"--rank", "N", "pc-lora: rank of every layer, instead of --ratio", &t.rank},
      {"--decay", "D", "pc-lora: sine (default), linear, 1-cosine or identity", &t.decay},
      {"--decay-end", "X",
       "pc-lora: share of the steps after which the weights are gone; 0: none from the start (0.8)",
       &t.decay_end},
      {"--task-weight", "X", "pc-lora: of the task's loss; the rest is distillation (0.2)",
       &t.task_weight},
      {"--feature-weight", "X", "pc-lora: of the blocks in the distillation (1)",
       &t.feature_weight},
      {"--logit-weight", "X", "pc-lora: of the outputs in it (1)", &t.logit_weight},
      {"--steps", "N", "pc-lora: updates (1000)", &t.steps},
      {"--batch", "N", "pc-lora: sequences an update (16)", &t.batch},
      {"--lr", "X", "pc-lora: learning rate (3e-3)", &t.learning_rate},
      {"--weight-decay", "X", "pc-lora: AdamW's (0)", &t.weight_decay},
      {"--eval-every", "N", "pc-lora: steps between evaluations (0: two in all)", &t.eval_every},
      {"--resume", "", "pc-lora: go on with the run in OUT", &s->resume},
      {"--checkpoint-seconds", "S", "pc-lora: time between checkpoints (20)",
       &s->checkpoint_seconds},
      {"--seed", "N", "seed (0)", &s->seed}};
  for (const Option& option : task_options(s->task, true)) c.options.push_back(option);
  c.options.push_back(threads_option(&s->threads));
  c.options.push_back(json_option(&s->json));
  c.options.push_back(quiet_option(&s->quiet));
  c.action = [s] { return run(*s); };
  return c;
}

}  // namespace parsimony::cli
