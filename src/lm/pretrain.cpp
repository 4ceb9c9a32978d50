// The masked-language-model training loop, as a run with a folder, checkpoints and metrics.
#include <parsimony/batching.hpp>
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>
#include <parsimony/files.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/pretrain.hpp>
#include <parsimony/vocabulary.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace parsimony {

namespace {

namespace fs = std::filesystem;
using T = float;

struct Score {
  double loss = 0, accuracy = 0;
};

Score held_out_score(const Bert<T>& model, const PackedCorpus& corpus,
                     const std::vector<index_t>& rows, const WordPieceTokenizer& tokenizer,
                     const PretrainOptions& o, const Rng& rng) {
  const NoGrad no_grad;
  double loss = 0;
  double right = 0;
  double total = 0;
  for (std::size_t at = 0; at < rows.size(); at += static_cast<std::size_t>(o.batch)) {
    const std::size_t end = std::min(rows.size(), at + static_cast<std::size_t>(o.batch));
    const std::vector<index_t> some(rows.begin() + static_cast<long>(at),
                                    rows.begin() + static_cast<long>(end));
    // The masks are the same at every evaluation.
    const MaskedBatch batch = mask_sequences(corpus, some, tokenizer, o.masked, rng.split(at));
    Pass pass;
    const Var<T> logits = model.masked_logits(batch.tokens, batch.places, pass);
    const auto n = static_cast<double>(batch.labels.size());
    loss += n * static_cast<double>(cross_entropy(logits, batch.labels).item());
    const std::vector<index_t> best = argmax_rows(logits.value());
    for (std::size_t i = 0; i < best.size(); ++i) {
      right += best[i] == batch.labels.data()[i] ? 1 : 0;
    }
    total += n;
  }
  return {loss / total, right / total};
}

/// Weights decay, biases and norms do not.
std::vector<ParameterGroup<T>> groups_of(const Bert<T>& model, double weight_decay) {
  std::vector<ParameterGroup<T>> groups(2);
  groups[0].weight_decay = weight_decay;
  for (const auto& [name, var] : model.named_parameters()) {
    groups[var.rank() >= 2 ? 0 : 1].parameters.emplace_back(name, var);
  }
  return groups;
}

class PretrainJob : public Experiment {
 public:
  PretrainJob(const PretrainOptions& o, const WordPieceTokenizer& tokenizer,
              const PackedCorpus& corpus, const fs::path& folder)
      : o_(o),
        tokenizer_(tokenizer),
        corpus_(corpus),
        name_(folder.filename().string()),
        result_path_((folder / "result.json").string()) {}

  ExperimentInfo info() const override {
    return {name_, "masked-language-model pretraining", "Devlin et al. 2019", {}};
  }
  std::vector<ClaimStatement> claims() const override { return {}; }
  void preset(const std::string&, Config&) const override {}
  // What decides the result, so that a run is only resumed with the same.
  void declare(Config& c) const override {
    std::string files;
    for (const std::string& file : o_.corpus) {
      files += (files.empty() ? "" : " ") + fs::path(file).filename().string();
    }
    c.declare("corpus", files, "text files");
    c.declare("corpus_tokens", corpus_.tokens(), "tokens in packed sequences");
    c.declare("size", o_.size, "size of the model");
    c.declare("vocab_size", tokenizer_.size(), "tokens in the vocabulary");
    c.declare("steps", o_.steps, "updates");
    c.declare("batch", o_.batch, "sequences a step");
    c.declare("length", o_.length, "tokens a sequence");
    c.declare("lr", o_.learning_rate, "learning rate after warm-up");
    c.declare("warmup", o_.warmup, "share of the steps");
    c.declare("weight_decay", o_.weight_decay, "AdamW's, on matrices");
    c.declare("clip", o_.clip, "largest gradient norm");
    c.declare("dropout", o_.dropout, "while pretraining");
    c.declare("masked", o_.masked, "share of tokens predicted");
    c.declare("held_out", o_.held_out, "share of sequences");
    c.declare("eval_every", o_.eval_every, "steps");
  }

  void run(Run& run) const override {
    const Rng rng = run.rng();
    BertConfig config = BertConfig::sized(o_.size, tokenizer_.size());
    config.max_position_embeddings = std::max<index_t>(config.max_position_embeddings, o_.length);
    config.pad_token_id = tokenizer_.pad_id();
    config.hidden_dropout_prob = o_.dropout;
    config.attention_probs_dropout_prob = o_.dropout;
    Bert<T> model(config, BertHead::masked_lm, rng.split("model"));

    std::vector<index_t> order = rng.split("held out").permutation(corpus_.size());
    const auto held =
        std::clamp<index_t>(static_cast<index_t>(o_.held_out * static_cast<double>(corpus_.size())),
                            1, corpus_.size() - 1);
    const std::vector<index_t> held_out(order.begin(), order.begin() + held);
    const std::vector<index_t> training(order.begin() + held, order.end());
    const TrainingBatches batches(static_cast<index_t>(training.size()), o_.batch,
                                  rng.split("batches"));
    run.say(fmt::format("{} parameters; {} sequences of {} tokens, {} held out",
                        model.parameter_count(), corpus_.size(), o_.length, held));

    AdamW<T> optimizer(groups_of(model, o_.weight_decay), o_.learning_rate, 0.9, 0.999, 1e-6);
    const LinearSchedule schedule{static_cast<index_t>(o_.warmup * static_cast<double>(o_.steps)),
                                  o_.steps, 0.0};
    const Record& record = run.stage("pretrain", [&](Stage& stage) {
      // What an earlier run left must not be taken for this one's.
      for (const char* made : {"model", "result.json"}) {
        fs::remove_all(fs::path(run.folder()) / made);
      }
      stage.track(model.named_parameters());
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
              held_out_score(model, corpus_, held_out, tokenizer_, o_, rng.split("held-out masks"));
          evaluating += stage.seconds() - before;
          const double busy = stage.seconds() - evaluating;
          stage.log(step, {{"held_out_loss", stage.finite("held_out_loss", s.loss)},
                           {"held_out_accuracy", s.accuracy},
                           {"train_loss", step == 0 ? s.loss : smooth},
                           {"tokens_per_second", busy > 0 ? tokens / busy : 0.0}});
        }
        if (step == o_.steps) return Stage::stop;
        const auto number = static_cast<std::uint64_t>(step);
        std::vector<index_t> rows = batches.rows(step);
        for (index_t& row : rows) row = training[static_cast<std::size_t>(row)];
        const MaskedBatch batch =
            mask_sequences(corpus_, rows, tokenizer_, o_.masked, rng.split("masks").split(number));
        Pass pass(rng.split("dropout").split(number));
        const Var<T> loss =
            cross_entropy(model.masked_logits(batch.tokens, batch.places, pass), batch.labels);
        const double value = stage.finite("train_loss", static_cast<double>(loss.item()));
        smooth = step == 0 ? value : 0.98 * smooth + 0.02 * value;
        tokens += static_cast<double>(batch.tokens.ids.size());
        backward(loss);
        if (o_.clip > 0) clip_gradients(model.named_parameters(), o_.clip);
        optimizer.set_learning_rate(o_.learning_rate * schedule.factor(step));
        optimizer.step();
        return Stage::go_on;
      });
      // Inside the stage: a stage that is done keeps its rows, not the weights.
      save_model(model, run.folder() + "/model");
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
  /// config.json last: without it a folder that a full disk cut short is no model.
  void save_model(Bert<T>& model, const std::string& folder) const {
    make_folders(folder);
    tokenizer_.save(folder);
    save_bert(model, folder, float_format(o_.format));
    // Fine-tuning wants its dropout, whatever pretraining had.
    BertConfig saved = model.config();
    saved.hidden_dropout_prob = BertConfig().hidden_dropout_prob;
    saved.attention_probs_dropout_prob = BertConfig().attention_probs_dropout_prob;
    save_bert_config(saved, folder + "/config.json");
  }

  static Figure curve(const Record& record) {
    Figure f;
    f.name = "loss";
    f.title = "Masked language model";
    f.caption =
        "Loss on held-out text and on the training batches (smoothed), and how many masked "
        "tokens are predicted right.";
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
  const WordPieceTokenizer& tokenizer_;
  const PackedCorpus& corpus_;
  std::string name_, result_path_;
};

void check(const PretrainOptions& o) {
  const auto need = [](bool ok, const std::string& what) {
    if (!ok) throw ValueError("pretrain: expected " + what);
  };
  need(!o.corpus.empty(), "at least one text file");
  need(!o.out.empty(), "a folder for the run");
  need(o.steps >= 1 && o.batch >= 1 && o.eval_every >= 1,
       "steps, batch and eval-every of 1 or more");
  need(o.learning_rate > 0 && o.weight_decay >= 0 && o.clip >= 0,
       "a learning rate above 0, and weight decay and clip of 0 or more");
  need(o.masked > 0 && o.masked < 1, "a masked share between 0 and 1");
  need(o.held_out > 0 && o.held_out < 1, "a held-out share between 0 and 1");
  need(o.warmup >= 0 && o.warmup <= 1, "a warm-up share in [0, 1]");
  need(o.dropout >= 0 && o.dropout < 1, "a dropout in [0, 1)");
  float_format(o.format);
  BertConfig::sized(o.size, o.vocab_size).check();
}

WordPieceTokenizer tokenizer_for(const PretrainOptions& o) {
  WordPieceOptions words;
  words.lower_case = !o.cased;
  words.model_max_length = std::max<index_t>(512, o.length);
  if (!o.vocab.empty()) return WordPieceTokenizer::load(o.vocab, words);
  VocabularyOptions v;
  v.size = o.vocab_size;
  return WordPieceTokenizer(train_wordpiece(o.corpus, v, words), words);
}

}  // namespace

PretrainResult pretrain(const PretrainOptions& options) {
  check(options);
  const WordPieceTokenizer tokenizer = tokenizer_for(options);
  const PackedCorpus corpus = pack_corpus(tokenizer, options.corpus, options.length);
  if (corpus.size() < 2) {
    throw InputError(fmt::format(
        "corpus: expected text for at least two sequences of {} tokens, one of them held out",
        options.length));
  }
  const fs::path out = fs::absolute(options.out).lexically_normal();
  const fs::path folder = out.has_filename() ? out : out.parent_path();
  RunOptions run;
  run.out = folder.parent_path().string();
  run.seed = options.seed;
  run.resume = options.resume;
  run.keep_checkpoint = options.keep_checkpoint;
  run.quiet = options.quiet;
  run.checkpoint_seconds = options.checkpoint_seconds;
  run_experiment(PretrainJob(options, tokenizer, corpus, folder), run);
  const auto json = nlohmann::json::parse(read_file((folder / "result.json").string()));
  return {json.at("held_out_loss").get<double>(), json.at("held_out_accuracy").get<double>(),
          json.at("tokens_per_second").get<double>(), (folder / "model").string()};
}

}  // namespace parsimony
