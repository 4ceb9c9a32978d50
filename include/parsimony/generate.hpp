// What a decoder writes, and how well it foretells a text.
#pragma once

#include <parsimony/decoder.hpp>
#include <parsimony/tokenizer.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace parsimony {

/// A decoder with its tokenizer.
struct LanguageModel {
  std::unique_ptr<Decoder<float>> decoder;
  std::unique_ptr<Tokenizer> tokenizer;
  std::string folder;  // of Hugging Face's form; "" for a file of llama2.c's
};

/// Whether load_language_model() is for this model: a .bin, a folder with one and no config.json,
/// or a folder whose model_type is gpt2 or llama. @throws InputError on a config.json that cannot
/// be read, or several .bin files.
bool names_decoder(const std::string& model);

/// Reads a model folder (or a pretraining run's, whose model/ is taken); or a llama2.c .bin, or a
/// folder with one and no config.json, whose vocabulary is tokenizer.bin or tokN.bin beside it for
/// N pieces, unless `tokenizer` names another file. An adapter is merged into the weights.
/// @throws InputError if there is no such model, it is no decoder, or its tokenizer has more
/// tokens.
LanguageModel load_language_model(const std::string& model, const std::string& adapter = "",
                                  const std::string& tokenizer = "");

/// Adds the ΔW of an adapter folder, native or PEFT's, to the weights of a decoder that was read
/// from `folder` ("": from no such folder). One that was trained below a classification head is
/// taken without that head. @throws InputError as load_adapters and attach_peft.
void merge_adapter(Decoder<float>& decoder, const std::string& folder, const std::string& adapter);

struct GenerateOptions {
  /// New tokens at most; 0: 128, or what the context window leaves.
  index_t max_tokens = 0;
  /// 0: the likeliest token; else tokens are drawn from softmax(logits / temperature).
  double temperature = 0;
  /// Draw from the k likeliest only; 0: all.
  index_t top_k = 0;
  /// Draw from the fewest likeliest tokens whose probabilities reach p.
  double top_p = 1;
  /// Beam search over so many continuations, without draws; scores are divided by
  /// length^length_penalty.
  index_t beams = 1;
  double length_penalty = 1;
  std::uint64_t seed = 0;
  /// Choose ids below this only, the tokenizer's size; 0: any of the model's.
  index_t vocabulary = 0;
  /// Keep keys and values; without, every token runs the whole text again.
  bool cache = true;
};

struct Generated {
  std::vector<std::int32_t> ids;  // new ones, without the token of the end
  /// "end" (the token of the end came), "length" (max_tokens) or "context".
  std::string stopped;
  double log_probability = 0;  // of the new tokens
  double seconds = 0;
};

/// Continues a prompt of at least one id. With the likeliest token each time, the cache changes
/// nothing: the same ids and, on CPUs with AVX-512 or AVX2, the same bits of every score.
/// @throws ValueError on options outside their ranges, an empty prompt, or a prompt (with
/// max_tokens, where given) that does not fit the context window; NumericalError on scores that are
/// not finite.
Generated generate(const Decoder<float>& model, const std::vector<std::int32_t>& prompt,
                   const GenerateOptions& options,
                   const std::function<bool(std::int32_t)>& is_end = {});

/// Scores (vocab_size) of the token after `ids`; with a cache that has read all before them.
Tensor<float> next_scores(const Decoder<float>& model, const std::vector<std::int32_t>& ids,
                          KeyValueCache<float>* cache = nullptr);

struct PerplexityOptions {
  /// Tokens a window; 0: the context window.
  index_t length = 0;
  /// Tokens from one window to the next; 0: all of it. Only those that are new are scored, so a
  /// smaller stride gives every token more to go by.
  index_t stride = 0;
  index_t batch = 8;
  /// Told after every batch how many of all windows are done; may be empty.
  std::function<void(index_t done, index_t all)> progress = {};
};

struct Perplexity {
  index_t tokens = 0;  // scored
  double loss = 0;     // mean of -log p, in nats
  double perplexity() const;
  double seconds = 0;
};

/// How well a model foretells a text. A family that begins with a token of the beginning gets one
/// before each window; of others the first token of the text is not scored.
/// @throws ValueError on options outside their ranges or fewer than two ids; NumericalError.
Perplexity perplexity(const LanguageModel& model, const std::vector<std::int32_t>& ids,
                      const PerplexityOptions& options);

}  // namespace parsimony
