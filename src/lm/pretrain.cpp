// The pretraining loop, as a run with a folder, checkpoints and metrics; what is trained, and on
// which loss, is a PretrainModel (pretrain_models.cpp).
#include <parsimony/batching.hpp>
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/pretrain.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "lm/digests.hpp"
#include "lm/pretrain_models.hpp"

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using T = float;

/// Over all held-out sequences.
Score held_out_score(const PretrainModel& model, const PackedCorpus& corpus,
                     const std::vector<index_t>& rows, index_t batch, const Rng& rng) {
  const NoGrad no_grad;
  Score sum;
  for (std::size_t at = 0; at < rows.size(); at += static_cast<std::size_t>(batch)) {
    const std::size_t end = std::min(rows.size(), at + static_cast<std::size_t>(batch));
    const std::vector<index_t> some(rows.begin() + static_cast<long>(at),
                                    rows.begin() + static_cast<long>(end));
    // What is masked is the same at every evaluation.
    const Score s = model.score(corpus, some, rng.split(at));
    sum.loss += s.loss;
    sum.right += s.right;
    sum.count += s.count;
  }
  return sum;
}

/// Weights decay, biases and norms do not.
std::vector<ParameterGroup<T>> groups_of(const NamedParameters<T>& parameters,
                                         double weight_decay) {
  std::vector<ParameterGroup<T>> groups(2);
  groups[0].weight_decay = weight_decay;
  for (const auto& [name, var] : parameters) {
    groups[var.rank() >= 2 ? 0 : 1].parameters.emplace_back(name, var);
  }
  return groups;
}

/// Tokens of the pieces at the beginning, 0 for none.
index_t piece_length(const PretrainOptions& o) {
  if (o.short_length) return *o.short_length;
  constexpr index_t usual = 32;
  return o.arch == "bert" && o.length > usual && o.length % usual == 0 ? usual : 0;
}

/// The same tokens as sequences of `length`: piece j of sequence i is number i · pieces + j.
PackedCorpus in_pieces(PackedCorpus corpus, index_t length) {
  corpus.length = length;
  return corpus;
}

class PretrainJob : public Experiment {
 public:
  PretrainJob(const PretrainOptions& o, const Vocabulary& vocabulary, const PackedCorpus& corpus,
              const fs::path& folder)
      : o_(o),
        vocabulary_(vocabulary),
        corpus_(corpus),
        pieces_(piece_length(o) == 0 ? PackedCorpus() : in_pieces(corpus, piece_length(o))),
        text_(digest_of(corpus, vocabulary.tokenizer())),
        weights_(weights_to_go_on_from()),
        name_(folder.filename().string()),
        result_path_((folder / "result.json").string()) {}

  ExperimentInfo info() const override { return {name_, "language-model pretraining", "", {}}; }
  std::vector<ClaimStatement> claims() const override { return {}; }
  void preset(const std::string&, Config&) const override {}
  // What decides the result, so that a run is only resumed with the same.
  void declare(Config& c) const override {
    std::string files;
    for (const std::string& file : o_.corpus) {
      files += (files.empty() ? "" : " ") + fs::path(file).filename().string();
    }
    c.declare("corpus", files, "text files");
    c.declare("text", text_, "digest of the sequences and the vocabulary");
    c.declare("corpus_tokens", corpus_.tokens(), "tokens in packed sequences");
    c.declare("model", o_.model, "model that it goes on from");
    c.declare("model_weights", weights_, "digest of its weights");
    c.declare("arch", o_.arch, "family of the model");
    c.declare("size", o_.size, "size of the model");
    c.declare("vocab_size", vocabulary_.tokenizer().size(), "tokens in the vocabulary");
    c.declare("steps", o_.steps, "updates");
    c.declare("batch", o_.batch, "sequences a step");
    c.declare("length", o_.length, "tokens a sequence");
    c.declare("short_length", pieces_.length, "tokens a piece at the beginning");
    c.declare("short_share", o_.short_share, "share of the steps with pieces");
    c.declare("lr", o_.learning_rate, "learning rate after warm-up");
    c.declare("warmup", o_.warmup, "share of the steps");
    c.declare("weight_decay", o_.weight_decay, "AdamW's, on matrices");
    c.declare("clip", o_.clip, "largest gradient norm");
    c.declare("dropout", *o_.dropout, "while pretraining");
    c.declare("masked", *o_.masked, "share of tokens predicted");
    c.declare("held_out", o_.held_out, "share of sequences");
    c.declare("eval_every", o_.eval_every, "steps");
  }

  void run(Run& run) const override {
    const Rng rng = run.rng();
    LoadReport report;
    const auto model = make_pretrain_model(o_, vocabulary_, rng.split("model"), report);
    const auto told = [&](const char* what, const std::vector<std::string>& names) {
      if (!names.empty()) run.say(fmt::format("{}: {}", what, fmt::join(names, ", ")));
    };
    told("fresh, because it is not in the model", report.fresh);
    told("left out, because language modelling has no use for it", report.ignored);
    const NamedParameters<T> parameters = model->parameters();
    index_t count = 0;
    for (const auto& [name, var] : parameters) count += var.value().size();

    // Of no seed: runs with several seeds, or from an earlier run's model, keep the same text
    // apart.
    const Rng apart(0);
    std::vector<index_t> order = apart.split("held out").permutation(corpus_.size());
    const auto held =
        std::clamp<index_t>(static_cast<index_t>(o_.held_out * static_cast<double>(corpus_.size())),
                            1, corpus_.size() - 1);
    const std::vector<index_t> held_out(order.begin(), order.begin() + held);
    const std::vector<index_t> training(order.begin() + held, order.end());
    const TrainingBatches batches(static_cast<index_t>(training.size()), o_.batch,
                                  rng.split("batches"));
    run.say(fmt::format("{} parameters; {} sequences of {} tokens, {} held out", count,
                        corpus_.size(), o_.length, held));

    AdamW<T> optimizer(groups_of(parameters, o_.weight_decay), o_.learning_rate, 0.9, 0.999, 1e-6);
    const LinearSchedule schedule{static_cast<index_t>(o_.warmup * static_cast<double>(o_.steps)),
                                  o_.steps, 0.0};
    const Record& record = run.stage("pretrain", [&](Stage& stage) {
      stage.track(parameters);
      for (const auto& [name, tensor] : optimizer.state()) stage.track(name, tensor);
      stage.track("steps", optimizer.counter());
      double smooth = 0;
      double tokens = 0;
      double evaluating = 0;
      stage.track("smooth", smooth);
      stage.track("tokens", tokens);
      stage.track("evaluating", evaluating);
      stage.loop(o_.steps, [&](index_t step) {
        if (step % o_.eval_every == 0 || step == o_.steps) {
          const double before = stage.seconds();
          const Score s =
              held_out_score(*model, corpus_, held_out, o_.batch, apart.split("held-out masks"));
          evaluating += stage.seconds() - before;
          const double busy = stage.seconds() - evaluating;
          stage.log(step, {{"held_out_loss", stage.finite("held_out_loss", s.mean_loss())},
                           {"held_out_accuracy", s.accuracy()},
                           {"train_loss", step == 0 ? s.mean_loss() : smooth},
                           {"tokens_per_second", busy > 0 ? tokens / busy : 0.0}});
        }
        if (step == o_.steps) return Stage::stop;
        const auto number = static_cast<std::uint64_t>(step);
        std::vector<index_t> rows = batches.rows(step);
        for (index_t& row : rows) row = training[static_cast<std::size_t>(row)];
        tokens += static_cast<double>(static_cast<index_t>(rows.size()) * o_.length);
        const bool whole = step >= steps_in_pieces();
        if (!whole) rows = pieces_of(rows);
        Pass pass(rng.split("dropout").split(number), *o_.dropout);
        const Var<T> loss =
            model->loss(whole ? corpus_ : pieces_, rows, rng.split("masks").split(number), pass);
        const double value = stage.finite("train_loss", static_cast<double>(loss.item()));
        smooth = step == 0 ? value : 0.98 * smooth + 0.02 * value;
        backward(loss);
        if (o_.clip > 0) clip_gradients(parameters, o_.clip);
        optimizer.set_learning_rate(o_.learning_rate * schedule.factor(step));
        optimizer.step();
        return Stage::go_on;
      });
      // Inside the stage: a stage that is done keeps its rows, not the weights.
      save_model(*model, run.folder() + "/model");
    });

    write_file_atomically(
        result_path_,
        nlohmann::ordered_json{{"held_out_loss", record.last("held_out_loss")},
                               {"held_out_accuracy", record.last("held_out_accuracy")},
                               {"tokens_per_second", record.last("tokens_per_second")}}
                .dump(2) +
            "\n");
    run.figure(curve(record));
  }

 private:
  std::string weights_to_go_on_from() const {
    if (o_.model.empty()) return "";
    LoadReport report;
    return digest_of(make_pretrain_model(o_, vocabulary_, Rng(0), report)->parameters());
  }
  index_t steps_in_pieces() const {
    return pieces_.length == 0
               ? 0
               : static_cast<index_t>(o_.short_share * static_cast<double>(o_.steps));
  }
  std::vector<index_t> pieces_of(const std::vector<index_t>& rows) const {
    const index_t count = corpus_.length / pieces_.length;
    std::vector<index_t> out;
    for (const index_t row : rows) {
      for (index_t piece = 0; piece < count; ++piece) out.push_back(row * count + piece);
    }
    return out;
  }

  /// config.json last: without it a folder that a full disk cut short is no model.
  void save_model(PretrainModel& model, const std::string& folder) const {
    make_folders(folder);
    vocabulary_.tokenizer().save(folder);
    model.save(folder, float_format(o_.format));
  }

  Figure curve(const Record& record) const {
    const bool masked = o_.arch == "bert";
    Figure f;
    f.name = "loss";
    f.title = masked ? "Masked language model" : "Causal language model";
    f.caption = fmt::format(
        "Loss on held-out text and on the training batches (smoothed), and how many {}tokens are "
        "predicted right.",
        masked ? "masked " : "");
    Panel& loss = f.panel();
    loss.x_label = "step";
    loss.y_label = "cross-entropy";
    loss.line("held out", record.steps("held_out_loss"), record.series("held_out_loss"));
    loss.dashed("training", record.steps("train_loss"), record.series("train_loss"));
    Panel& accuracy = f.panel();
    accuracy.x_label = "step";
    accuracy.y_label = "accuracy";
    accuracy.line("held out", record.steps("held_out_accuracy"),
                  record.series("held_out_accuracy"));
    return f;
  }
  const PretrainOptions& o_;
  const Vocabulary& vocabulary_;
  const PackedCorpus& corpus_;
  PackedCorpus pieces_;  // of length 0 if there are none
  std::string text_, weights_, name_, result_path_;
};

void check(const PretrainOptions& o) {
  if (o.corpus.empty()) throw ValueError("pretrain: expected at least one text file");
  if (o.out.empty()) throw ValueError("pretrain: expected a folder for the run");
  const auto need = [](const char* option, auto got, bool ok, const std::string& what) {
    if (!ok) throw ValueError(fmt::format("{}: expected {}; got {}", option, what, got));
  };
  need("steps", o.steps, o.steps >= 1, "1 or more");
  need("batch", o.batch, o.batch >= 1, "1 or more");
  need("length", o.length, o.length >= 8, "8 or more");
  need("eval-every", o.eval_every, o.eval_every >= 1, "1 or more");
  need("lr", o.learning_rate, o.learning_rate > 0, "a number above 0");
  need("weight-decay", o.weight_decay, o.weight_decay >= 0, "0 or more");
  need("clip", o.clip, o.clip >= 0, "0 or more");
  const index_t piece = o.short_length.value_or(0);
  need("short-length", piece, piece == 0 || (piece >= 8 && o.length % piece == 0),
       fmt::format("8 or more that divides the length {}, or 0", o.length));
  need("short-share", o.short_share, o.short_share >= 0 && o.short_share <= 1, "a share in [0, 1]");
  const double masked = o.masked.value_or(0.15);
  need("masked", masked, masked > 0 && masked < 1, "a share between 0 and 1");
  need("held-out", o.held_out, o.held_out > 0 && o.held_out < 1, "a share between 0 and 1");
  need("warmup", o.warmup, o.warmup >= 0 && o.warmup <= 1, "a share in [0, 1]");
  const double dropout = o.dropout.value_or(0);
  need("dropout", dropout, dropout >= 0 && dropout < 1, "a probability in [0, 1)");
  float_format(o.format);
}

/// A vocabulary is learned before the text is packed. @throws InputError on a pipe.
void check_read_twice(const std::vector<std::string>& corpus) {
  for (const std::string& file : corpus) {
    check_exists(file == "-" ? "/dev/stdin" : file, "a file");
    if (file == "-" || !fs::is_regular_file(fs::canonical(file))) {
      throw InputError(
          fmt::format("'{}': expected a file, which is read twice, for the vocabulary and for the "
                      "text; got what can be read once: save it, or name a vocabulary with --vocab",
                      input_name(file)));
    }
  }
}

}  // namespace

PretrainResult pretrain(const PretrainOptions& given) {
  check(given);
  const PretrainOptions options = resolved(given);
  std::vector<std::string> read = options.corpus;
  read.insert(read.end(), {options.model, options.vocab});
  check_output_folder(options.out, read);
  if (options.vocab.empty()) check_read_twice(options.corpus);
  const Vocabulary vocabulary(options);
  const PackedCorpus corpus = vocabulary.pack(options.corpus, options.length);
  if (corpus.size() < 2) {
    throw InputError(fmt::format(
        "corpus: expected text for at least two sequences of {} tokens, one of them held out",
        options.length));
  }
  const fs::path out = fs::absolute(options.out).lexically_normal();
  const fs::path folder = out.has_filename() ? out : out.parent_path();
  RunOptions run;
  run.out = folder.parent_path().string();
  run.makes = {"model", "result.json"};
  run.seed = options.seed;
  run.resume = options.resume;
  run.keep_checkpoint = options.keep_checkpoint;
  run.quiet = options.quiet;
  run.checkpoint_seconds = options.checkpoint_seconds;
  run_experiment(PretrainJob(options, vocabulary, corpus, folder), run);
  const auto json = nlohmann::json::parse(read_file((folder / "result.json").string()));
  return {json.at("held_out_loss").get<double>(), json.at("held_out_accuracy").get<double>(),
          json.at("tokens_per_second").get<double>(), (folder / "model").string()};
}

}  // namespace parsimony
