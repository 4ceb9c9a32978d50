// parsimony generate and perplexity: what a decoder writes, and how well it foretells a text.
#include <parsimony/error.hpp>
#include <parsimony/generate.hpp>
#include <parsimony/input_files.hpp>

#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <unistd.h>

#include "cli/language.hpp"
#include "io/nlohmann.hpp"
#include "run/progress.hpp"

namespace parsimony::cli {

namespace {

using Json = nlohmann::ordered_json;

struct ModelSettings {
  std::string model, adapter, tokenizer;
};

std::vector<Option> model_options(ModelSettings& s) {
  return {
      {"--model", "DIR",
       "GPT-2 or LLaMA folder, a pretraining run, or a llama2.c .bin (the adapter's base)",
       &s.model},
      {"--adapter", "DIR", "adapter folder, native or PEFT's, merged into the weights", &s.adapter},
      {"--tokenizer", "PATH", "folder or file, where the model has none beside it", &s.tokenizer}};
}

LanguageModel load(const ModelSettings& s) {
  if (s.adapter.empty() && s.model.empty()) {
    throw ValueError("--model: expected a GPT-2 or LLaMA folder, or --adapter with its base");
  }
  if (s.adapter.empty()) return load_language_model(s.model, "", s.tokenizer);
  const AdapterSource adapter(s.adapter);
  const std::string model = base_for(s.model, adapter);
  if (model.empty()) {
    throw ValueError(
        fmt::format("--model: expected a GPT-2 or LLaMA; '{}' was trained on {}", adapter.folder,
                    adapter.base.empty() ? "a model that it does not name" : "the shipped BERT"));
  }
  if (model.compare(0, 8, "scratch:") == 0) {
    throw InputError(fmt::format(
        "'{}': expected an adapter of a language model; it was trained on fresh weights, "
        "{}, which foretell no text",
        adapter.folder, model));
  }
  return load_language_model(model, adapter.folder, s.tokenizer);
}

struct GenerateSettings {
  ModelSettings model;
  GenerateOptions options;
  std::string prompt, input;
  std::optional<index_t> max_tokens;
  bool greedy = false, no_cache = false, json = false, quiet = false;
  int threads = threads_unset;
};

int run_generate(GenerateSettings& s) {
  apply_threads(s.threads);
  GenerateOptions& o = s.options;
  if (!s.prompt.empty() && !s.input.empty()) {
    throw ValueError("generate: expected --prompt or --input; got both");
  }
  if (s.max_tokens && *s.max_tokens < 1) {
    throw ValueError(fmt::format("--max-tokens: expected 1 or more; got {}", *s.max_tokens));
  }
  o.max_tokens = s.max_tokens.value_or(0);
  const bool draws = o.temperature != 0 || o.top_k != 0 || o.top_p != 1;
  if (s.greedy && draws) {
    throw ValueError("generate: expected --greedy or a draw (--temperature, --top-k, --top-p)");
  }
  // Asking for a share of the likeliest is asking for draws.
  if (draws && o.temperature == 0 && o.beams == 1) o.temperature = 1;
  if (o.beams > 1 && draws) {
    throw ValueError("generate: expected --beams or a draw (--temperature, --top-k, --top-p)");
  }
  o.cache = !s.no_cache;
  const std::string prompt = s.input.empty() ? s.prompt : read_text(s.input);
  const LanguageModel model = load(s.model);
  model.decoder->prepare_generation();
  const Tokenizer& tokenizer = *model.tokenizer;
  o.vocabulary = tokenizer.size();
  std::vector<std::int32_t> ids;
  if ((tokenizer.begins_with_bos() || prompt.empty()) && tokenizer.bos_id() >= 0) {
    ids.push_back(tokenizer.bos_id());
  }
  tokenizer.append_ids(prompt, ids);
  const Generated g =
      generate(*model.decoder, ids, o, [&](std::int32_t id) { return tokenizer.is_end(id); });
  std::vector<std::int32_t> all = ids;
  all.insert(all.end(), g.ids.begin(), g.ids.end());
  const std::string text = tokenizer.decode(all);
  const double rate = static_cast<double>(g.ids.size()) / std::max(g.seconds, 1e-9);
  if (s.json) {
    fmt::print("{}\n", Json{{"text", text},
                            {"prompt_ids", ids},
                            {"ids", g.ids},
                            {"stopped", g.stopped},
                            {"seconds", g.seconds},
                            {"tokens_per_second", rate}}
                           .dump(2));
  } else {
    fmt::print("{}\n", text);
  }
  if (s.quiet) return 0;
  fmt::print(stderr, "{} tokens, {:.0f} tokens/s, stopped by {}\n", g.ids.size(), rate,
             g.stopped == "end"       ? "the model"
             : g.stopped == "context" ? "the context window"
                                      : "--max-tokens");
  return 0;
}

struct PerplexitySettings {
  ModelSettings model;
  PerplexityOptions options;
  std::string input;
  int threads = threads_unset;
  bool json = false, quiet = false;
};

int run_perplexity(PerplexitySettings& s) {
  apply_threads(s.threads);
  const std::string text = read_text(s.input);
  const LanguageModel model = load(s.model);
  const std::vector<std::int32_t> ids = model.tokenizer->ids(text);
  if (ids.size() < 2) {
    throw InputError(fmt::format("'{}': expected a text of two tokens or more; got {}",
                                 input_name(s.input), ids.size()));
  }
  detail::Progress line(s.quiet || isatty(STDERR_FILENO) != 1);
  bool begun = false;
  s.options.progress = [&](index_t done, index_t all) {
    // From the first batch on: what it takes to warm up is no rate.
    if (!begun) line.begin("perplexity", done, all);
    begun = true;
    line.update(done, detail::Progress::Clock::now(), "");
  };
  const Perplexity p = perplexity(model, ids, s.options);
  line.finish();
  const double bits =
      p.loss * static_cast<double>(p.tokens) / std::log(2.0) / static_cast<double>(text.size());
  if (s.json) {
    fmt::print("{}\n", Json{{"perplexity", p.perplexity()},
                            {"loss", p.loss},
                            {"tokens", p.tokens},
                            {"bytes", text.size()},
                            {"bits_per_byte", bits},
                            {"seconds", p.seconds}}
                           .dump(2));
  } else {
    fmt::print(
        "perplexity     {:.4f}\nloss           {:.5f}\ntokens         {}\n"
        "bits per byte  {:.4f}\n",
        p.perplexity(), p.loss, p.tokens, bits);
  }
  return 0;
}

}  // namespace

Command generate_command() {
  auto s = std::make_shared<GenerateSettings>();
  GenerateOptions& o = s->options;
  Command c;
  c.name = "generate";
  c.summary = "Continue a text with a GPT-2 or LLaMA";
  c.details =
      "Takes the likeliest token each time unless a temperature, --top-k or --top-p asks for draws "
      "or --beams for a search. Stops at the model's token of the end. The text goes to stdout, "
      "the "
      "rate to stderr.";
  c.examples = {"parsimony generate --model stories260k --max-tokens 200",
                "parsimony generate --model gpt2 --prompt 'The lake was' --temperature 0.8 "
                "--top-p 0.95 --seed 3",
                "parsimony generate --model runs/llama --input start.txt --beams 4 --json"};
  c.options = model_options(s->model);
  const std::vector<Option> more = {
      {"--prompt", "TEXT", "text to continue (none: from the beginning)", &s->prompt},
      {"--input", "FILE", "the same from a file (-: stdin)", &s->input},
      {"--max-tokens", "N", "new tokens at most (128, or what the context window leaves)",
       &s->max_tokens},
      {"--greedy", "", "the likeliest token each time (the default)", &s->greedy},
      {"--temperature", "T", "draw from softmax(scores / T)", &o.temperature},
      {"--top-k", "K", "draw from the K likeliest (0: all)", &o.top_k},
      {"--top-p", "P", "draw from the fewest that have probability P together (1)", &o.top_p},
      {"--beams", "N", "search over N continuations (1)", &o.beams},
      {"--length-penalty", "X", "beams are compared by log p / length^X (1)", &o.length_penalty},
      {"--seed", "N", "of the draws (0)", &o.seed},
      {"--no-cache", "", "run the whole text for every token", &s->no_cache},
      threads_option(&s->threads),
      json_option(&s->json),
      quiet_option(&s->quiet)};
  c.options.insert(c.options.end(), more.begin(), more.end());
  c.action = [s] { return run_generate(*s); };
  return c;
}

Command perplexity_command() {
  auto s = std::make_shared<PerplexitySettings>();
  PerplexityOptions& o = s->options;
  Command c;
  c.name = "perplexity";
  c.summary = "How well a GPT-2 or LLaMA foretells a text";
  c.details =
      "exp of the mean of -log p over the tokens of a text, window by window. A smaller stride "
      "gives every token more text to go by and takes longer.";
  c.examples = {"parsimony perplexity --model stories260k --input tinystories.txt",
                "parsimony perplexity --model gpt2 --input wiki.txt --stride 512 --json"};
  c.options = model_options(s->model);
  const std::vector<Option> more = {
      {"--input", "FILE", "text (-: stdin)", &s->input, true},
      {"--length", "N", "tokens a window (the context window)", &o.length},
      {"--stride", "N", "tokens from one window to the next (the length)", &o.stride},
      {"--batch", "N", "windows at a time (8)", &o.batch},
      threads_option(&s->threads),
      json_option(&s->json),
      quiet_option(&s->quiet)};
  c.options.insert(c.options.end(), more.begin(), more.end());
  c.action = [s] { return run_perplexity(*s); };
  return c;
}

}  // namespace parsimony::cli
