// parsimony pretrain: a language model from plain text.
#include <parsimony/pretrain.hpp>
#include <parsimony/run.hpp>

#include <memory>

#include <fmt/format.h>

#include "cli/command.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::cli {

namespace {

struct PretrainSettings {
  PretrainOptions pretrain;
  int threads = threads_unset;
  bool json = false;
};

int run(PretrainSettings& s) {
  apply_threads(s.threads);
  check_checkpoint_seconds(s.pretrain.checkpoint_seconds);
  install_interrupt_handler();
  const PretrainResult r = pretrain(s.pretrain);
  if (s.json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"held_out_loss", r.loss},
                                              {"held_out_accuracy", r.accuracy},
                                              {"tokens_per_second", r.tokens_per_second},
                                              {"model", r.model}}
                           .dump(2));
  } else {
    fmt::print(
        "held-out loss      {:.4f}\nheld-out accuracy  {:.4f}\ntokens per second  {:.0f}\n"
        "model              {}\n",
        r.loss, r.accuracy, r.tokens_per_second, r.model);
  }
  return 0;
}

}  // namespace

Command pretrain_command() {
  auto s = std::make_shared<PretrainSettings>();
  PretrainOptions& o = s->pretrain;
  Command c;
  c.name = "pretrain";
  c.summary = "Train a BERT, GPT-2 or LLaMA on plain text, from fresh weights or a model's";
  c.details =
      "Learns a vocabulary (unless --vocab gives one; WordPiece for a BERT, byte-level BPE for the "
      "others), packs the text into sequences and trains the masked language model of a BERT or "
      "the "
      "causal one of a GPT-2 or LLaMA. --model goes on from a trained one, with its vocabulary: a "
      "user's own, on text of a domain, or an earlier run's for longer. OUT is a run folder with "
      "metrics.csv and the loss curve; "
      "OUT/model is a Hugging Face folder that finetune and transformers read. A run that is "
      "stopped, even by kill -9, goes on with --resume to the same bits.";
  c.examples = {
      "parsimony pretrain --corpus books.txt news.txt --size tiny --out runs/tiny",
      "parsimony pretrain --corpus books.txt --size mini --steps 40000 --lr 5e-4 --out runs/mini",
      "parsimony pretrain --arch llama --corpus stories.txt --vocab-size 2048 --out runs/llama",
      "parsimony pretrain --corpus reports.txt --model bert-base-uncased --steps 2000 --lr 5e-5 "
      "--out runs/reports",
      "parsimony pretrain --corpus books.txt --size tiny --out runs/tiny --resume"};
  c.options = {
      {"--corpus", "FILE", "text files (UTF-8), a paragraph a line", &o.corpus, true, true},
      {"--model", "DIR", "model folder (or tiny-en) to go on from (fresh weights)", &o.model},
      {"--arch", "A", "bert (the default), gpt2 or llama", &o.arch},
      {"--size", "SIZE",
       "tiny (2 layers x 128, the default), mini (4 x 256), small (4 x 512), base", &o.size},
      {"--out", "DIR", "run folder; the model goes to DIR/model", &o.out, true},
      {"--vocab", "PATH", "model folder (or vocab.txt) to use the vocabulary of", &o.vocab},
      {"--vocab-size", "N", "size of a new vocabulary (8192)", &o.vocab_size},
      {"--cased", "", "keep capitals and accents (bert)", &o.cased},
      {"--steps", "N", "updates (20000)", &o.steps},
      {"--batch", "N", "sequences an update (64)", &o.batch},
      {"--length", "N", "tokens a sequence (128)", &o.length},
      {"--short-length", "N",
       "cut sequences into pieces of N tokens at first; 0: never (32 for a fresh BERT, if it "
       "divides --length)",
       &o.short_length},
      {"--short-share", "X", "share of the steps with such pieces (0.5)", &o.short_share},
      {"--lr", "X", "learning rate after warm-up (1e-3)", &o.learning_rate},
      {"--warmup", "X", "share of the steps that the rate rises (0.05); then it falls to 0",
       &o.warmup},
      {"--weight-decay", "X", "AdamW's, on matrices (0.01)", &o.weight_decay},
      {"--clip", "X", "largest norm of the gradient (1); 0: no limit", &o.clip},
      {"--dropout", "X", "while pretraining (0.1); a LLaMA has none", &o.dropout},
      {"--masked", "X", "share of the tokens that are predicted (0.15; bert)", &o.masked},
      {"--held-out", "X", "share of the sequences kept for evaluation (0.02)", &o.held_out},
      {"--eval-every", "N", "steps between evaluations (500)", &o.eval_every},
      {"--format", "F", "of the saved weights: f32, f16 or bf16 (f32)", &o.format},
      {"--seed", "N", "seed (0)", &o.seed},
      {"--resume", "", "go on with the run in DIR", &o.resume},
      {"--keep", "", "keep the checkpoint of a run that is done", &o.keep_checkpoint},
      {"--checkpoint-seconds", "S", "time between checkpoints (60)", &o.checkpoint_seconds},
      threads_option(&s->threads),
      json_option(&s->json),
      quiet_option(&o.quiet)};
  c.action = [s] { return run(*s); };
  return c;
}

}  // namespace parsimony::cli
