// Texts cut from a file of captions, and the LLaMA that is trained on a part of them.
#include "bolaco_model.hpp"

#include <parsimony/bpe.hpp>
#include <parsimony/decoder.hpp>
#include <parsimony/files.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/pretrain.hpp>

#include <algorithm>
#include <cmath>

namespace parsimony::lab {

void split_captions(const std::string& path, index_t bytes, const std::string& folder) {
  const std::string text = read_file(path);
  const auto cut = [&](std::size_t at) {
    const std::size_t end = text.find("\n\n", std::min(at, text.size()));
    return end == std::string::npos ? text.size() : end + 2;
  };
  const std::size_t held = cut(text.size() / 5);
  const std::size_t end = bytes == 0 ? text.size() : cut(held + static_cast<std::size_t>(bytes));
  make_folders(folder);
  write_file_atomically(folder + "/held_out.txt", text.substr(0, held));
  write_file_atomically(folder + "/train.txt", text.substr(held, end - held));
}

void train_own(Stage& stage, const Config& c, const std::string& folder, const Rng& rng) {
  constexpr index_t words = 512, length = 64, batch = 8, head_width = 16;
  constexpr double rate = 8e-3;
  const index_t steps = c.integer("own_steps", 1, 1 << 30);
  const std::string text = folder + "/train.txt";
  const BpeTokenizer tokenizer = train_bpe({text}, words);
  const PackedCorpus corpus = pack_text(tokenizer, {text}, length);
  LlamaConfig config;
  config.vocab_size = tokenizer.size();
  config.hidden_size = c.integer("own_width", head_width, 4096) / head_width * head_width;
  config.layers = c.integer("own_layers", 1, 64);
  config.heads = config.kv_heads = config.hidden_size / head_width;
  config.head_width = head_width;
  config.intermediate_size = 8 * config.hidden_size / 3;
  config.positions = 512;
  config.tied = true;
  // As wide a spread as a narrow model's layers need; 0.02 is BERT-base's.
  config.initializer_range = 1 / std::sqrt(static_cast<double>(config.hidden_size));
  config.bos_id = tokenizer.bos_id();
  config.eos_id = tokenizer.eos_id();
  Llama<float> model(config, DecoderHead::language, rng.split("model"));
  const auto parameters = model.named_parameters();
  AdamW<float> optimizer({{parameters, 1.0, 0.0}}, rate);
  const LinearSchedule schedule{steps / 20, steps, 0.0};
  stage.track(parameters);
  for (const auto& [name, tensor] : optimizer.state()) stage.track(name, tensor);
  stage.track("optimizer.steps", optimizer.counter());
  stage.loop(steps, [&](index_t step) {
    if (step == steps) return Stage::stop;
    Rng draws = rng.split("rows").split(static_cast<std::uint64_t>(step));
    Tensor<std::int64_t> ids({batch, length});
    for (index_t b = 0; b < batch; ++b) {
      std::copy_n(corpus.ids.begin() + draws.below(corpus.size()) * length, length,
                  ids.mutable_data() + b * length);
    }
    Pass pass;
    const Var<float> loss = model.language_loss(ids, pass);
    const double value = stage.finite("train_loss", static_cast<double>(loss.item()));
    if (step % 10 == 0) stage.log(step, {{"train_loss", value}});
    backward(loss);
    clip_gradients(parameters, 1.0);
    optimizer.set_learning_rate(rate * schedule.factor(step));
    optimizer.step();
    return Stage::go_on;
  });
  // Inside the stage: one that is done keeps its rows, not the weights.
  tokenizer.save(folder + "/model");
  model.save(folder + "/model");
}

}  // namespace parsimony::lab
