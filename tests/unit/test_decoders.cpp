// GPT-2, LLaMA and ViT against an independent implementation in double precision
// (tests/support/decoder_reference.py wrote tests/fixtures/decoders); folders; generation with and
// without the cache; what bad input says.
#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/generate.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/vit.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::fixture;

namespace {

const char* const decoders[] = {"gpt2_prefixed", "gpt2_bare", "llama_shared", "llama_own_head"};

std::string folder_of(const std::string& name) { return fixture("decoders/" + name); }

template <class T>
double largest_difference(const Tensor<T>& found, const Tensor<double>& expected) {
  REQUIRE(found.shape() == expected.shape());
  double most = 0;
  for (index_t i = 0; i < found.size(); ++i) {
    const double d = std::abs(static_cast<double>(found.data()[i]) - expected.data()[i]);
    most = std::isfinite(d) ? std::max(most, d) : 1e300;
  }
  return most;
}

template <class T>
Tensor<T> scores_of(const Decoder<T>& model, const Tensor<std::int64_t>& ids) {
  const NoGrad no_grad;
  Pass pass;
  const Var<T> x = model.hidden(ids, {}, pass);
  const Tensor<T> rows = x.value().reshape({ids.size(), x.dim(2)});
  return model.token_logits(Var<T>(rows), pass)
      .value()
      .reshape({ids.dim(0), ids.dim(1), model.config().vocab_size});
}

template <class T>
void check_decoder_parity(double tolerance) {
  for (const std::string name : decoders) {
    CAPTURE(name);
    const TensorMap expected = load_safetensors(folder_of(name) + "/expected.safetensors");
    const auto& ids = expected.get<std::int64_t>("ids");
    const auto model = load_decoder<T>(folder_of(name), DecoderHead::language, Rng(1));
    Pass pass;
    CHECK(largest_difference(model->hidden(ids, {}, pass).value(), expected.get<double>("hidden")) <
          tolerance);
    CHECK(largest_difference(scores_of(*model, ids), expected.get<double>("scores")) < tolerance);
    if (!expected.contains("labels")) continue;
    const auto classifier = load_decoder<T>(folder_of(name), DecoderHead::classifier, Rng(1));
    const TokenBatch batch{ids, Tensor<std::int64_t>::zeros(ids.shape()),
                           expected.get<std::uint8_t>("mask")};
    CHECK(largest_difference(classifier->logits(batch, pass).value(),
                             expected.get<double>("labels")) < tolerance);
  }
}

/// Small, with weights far enough from 0 that scores are not uniform.
template <class Config>
void make_small(Config& c) {
  c.vocab_size = 50;
  c.hidden_size = 48;
  c.layers = 2;
  c.heads = 4;
  c.intermediate_size = 80;
  c.positions = 512;
  c.initializer_range = 0.3;
  c.tied = true;
  c.bos_id = c.eos_id = -1;
}

std::unique_ptr<Decoder<float>> fresh_llama() {
  LlamaConfig c;
  make_small(c);
  c.kv_heads = 2;
  c.head_width = 12;
  return std::make_unique<Llama<float>>(c, DecoderHead::language, Rng(3));
}
std::unique_ptr<Decoder<float>> fresh_gpt2() {
  Gpt2Config c;
  make_small(c);
  c.embd_dropout = c.resid_dropout = c.attn_dropout = 0;
  return std::make_unique<Gpt2<float>>(c, DecoderHead::language, Rng(3));
}

/// A model of llama2.c's format with random weights.
std::string llama2c_bytes(std::vector<std::int32_t> header, std::size_t floats) {
  std::string bytes(reinterpret_cast<const char*>(header.data()), header.size() * 4);
  const Tensor<float> values = Rng(4).normal<float>({static_cast<index_t>(floats)});
  bytes.append(reinterpret_cast<const char*>(values.data()), floats * 4);
  return bytes;
}

}  // namespace

TEST_CASE("decoders: hidden states, scores and classes are the reference's") {
  check_decoder_parity<double>(1e-11);
  check_decoder_parity<float>(2e-5);
}

TEST_CASE("vit: hidden states and classes are the reference's") {
  const TensorMap expected = load_safetensors(folder_of("vit") + "/expected.safetensors");
  Pass pass;
  const auto exact = load_vit<double>(folder_of("vit"), Rng(1));
  const auto& pixels = expected.get<double>("pixels");
  CHECK(largest_difference(exact->hidden(pixels, pass).value(), expected.get<double>("hidden")) <
        1e-11);
  CHECK(largest_difference(exact->logits(pixels, pass).value(), expected.get<double>("logits")) <
        1e-11);
  const auto model = load_vit<float>(folder_of("vit"), Rng(1));
  CHECK(largest_difference(model->logits(cast<float>(pixels), pass).value(),
                           expected.get<double>("logits")) < 2e-5);
  CHECK_THROWS_WITH(model->logits(Tensor<float>({3, 1, 12, 12}), pass),
                    contains("expected pixels (batch, 2, 12, 12)"));
}

TEST_CASE("decoders and vit: what is saved is what is loaded") {
  const parsimony::testing::TempFolder temp;
  for (const std::string name : decoders) {
    CAPTURE(name);
    const auto model = load_decoder<float>(folder_of(name), DecoderHead::language, Rng(1));
    model->save((temp / name));
    const auto again = load_decoder<float>((temp / name), DecoderHead::language, Rng(2));
    const Tensor<std::int64_t> ids({1, 4}, {1, 5, 9, 2});
    CHECK(scores_of(*model, ids).to_vector() == scores_of(*again, ids).to_vector());
    const bool gpt2 = name.compare(0, 4, "gpt2") == 0;
    CHECK_THAT(read_file(temp / (name + "/config.json")),
               contains(gpt2 ? "\"GPT2LMHeadModel\"" : "\"LlamaForCausalLM\""));
    const auto classifier = load_decoder<float>(folder_of(name), DecoderHead::classifier, Rng(1));
    classifier->save(temp / (name + "-classifier"));
    CHECK_THAT(read_file(temp / (name + "-classifier/config.json")),
               contains(gpt2 ? "\"GPT2ForSequenceClassification\""
                             : "\"LlamaForSequenceClassification\""));
  }
  const auto model = load_vit<float>(folder_of("vit"), Rng(1));
  model->save((temp / "vit"));
  CHECK_THAT(read_file(temp / "vit/config.json"), contains("\"ViTForImageClassification\""));
  const TensorMap before = load_safetensors(folder_of("vit") + "/model.safetensors");
  const TensorMap after = load_safetensors((temp / "vit") + "/model.safetensors");
  REQUIRE(before.names() == after.names());
  for (const std::string& name : before.names()) {
    CHECK(before.shape(name) == after.shape(name));
    CHECK(before.get<float>(name).to_vector() == after.get<float>(name).to_vector());
  }
}

TEST_CASE("generation: the cache changes no bit of the scores") {
  for (const bool gpt2 : {false, true}) {
    CAPTURE(gpt2);
    const auto model = gpt2 ? fresh_gpt2() : fresh_llama();
    for (const bool transposed : {false, true}) {
      if (transposed) model->prepare_generation();
      // Past 384 keys the products are summed in blocks.
      std::vector<std::int32_t> ids;
      Rng draw(5);
      for (int i = 0; i < 400; ++i) ids.push_back(static_cast<std::int32_t>(draw.below(50)));
      KeyValueCache<float> cache = model->cache();
      next_scores(*model, {ids.begin(), ids.begin() + 130}, &cache);
      std::vector<std::int32_t> read(ids.begin(), ids.begin() + 130);
      for (const std::size_t upto : {131U, 132U, 199U, 399U}) {
        while (read.size() + 1 < upto) {
          read.push_back(ids[read.size()]);
          next_scores(*model, {read.back()}, &cache);
        }
        read.push_back(ids[read.size()]);
        const Tensor<float> cached = next_scores(*model, {read.back()}, &cache);
        const Tensor<float> whole = next_scores(*model, read);
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))  // our own products
        CHECK((cached.to_vector() == whole.to_vector()));
#endif
        CHECK(largest_difference(cached, cast<double>(whole)) < 1e-4);
      }
      GenerateOptions options;
      options.max_tokens = 60;
      const Generated with = generate(*model, {1, 2, 3}, options);
      options.cache = false;
      const Generated without = generate(*model, {1, 2, 3}, options);
      CHECK(with.ids == without.ids);
      CHECK(with.ids.size() == 60);
      CHECK(with.stopped == "length");
    }
  }
}

TEST_CASE("generation: draws, beams and the end") {
  const auto model = fresh_gpt2();
  GenerateOptions draw;
  draw.max_tokens = 20;
  draw.temperature = 1;
  draw.seed = 7;
  const auto first = generate(*model, {1}, draw);
  CHECK(first.ids == generate(*model, {1}, draw).ids);
  draw.cache = false;
  CHECK(first.ids == generate(*model, {1}, draw).ids);
  draw.seed = 8;
  CHECK(first.ids != generate(*model, {1}, draw).ids);
  // The likeliest alone is what greedy takes.
  GenerateOptions greedy;
  greedy.max_tokens = 20;
  const auto likeliest = generate(*model, {1}, greedy);
  draw.top_k = 1;
  CHECK(generate(*model, {1}, draw).ids == likeliest.ids);
  draw.top_k = 0;
  draw.top_p = 1e-9;
  CHECK(generate(*model, {1}, draw).ids == likeliest.ids);

  GenerateOptions beams = greedy;
  beams.max_tokens = 6;
  beams.beams = 50 * 50;
  CHECK_THROWS_WITH(generate(*model, {1}, beams), contains("1 to 256 beams"));
  beams.beams = 8;
  const auto searched = generate(*model, {1}, beams);
  beams.cache = false;
  CHECK(generate(*model, {1}, beams).ids == searched.ids);
  // A beam of one path is greedy's; a wider one finds nothing less likely here.
  const auto log_p = [&](const std::vector<std::int32_t>& ids) {
    std::vector<std::int32_t> all{1};
    double total = 0;
    for (const std::int32_t id : ids) {
      const Tensor<float> s = next_scores(*model, all);
      double sum = 0;
      for (const float x : s) sum += std::exp(static_cast<double>(x));
      total += static_cast<double>(s.data()[id]) - std::log(sum);
      all.push_back(id);
    }
    return total;
  };
  const std::vector<std::int32_t> six(likeliest.ids.begin(), likeliest.ids.begin() + 6);
  CHECK(searched.log_probability == Approx(log_p(searched.ids)).epsilon(1e-5));
  CHECK(searched.log_probability >= log_p(six) - 1e-6);

  const std::int32_t third = likeliest.ids[2];
  const auto ended = generate(*model, {1}, greedy, [&](std::int32_t id) { return id == third; });
  CHECK(ended.stopped == "end");
  CHECK(std::find(ended.ids.begin(), ended.ids.end(), third) == ended.ids.end());
}

TEST_CASE("decoders and vit: layers stored as pairs") {
  const parsimony::testing::TempFolder temp;
  const Tensor<std::int64_t> ids({1, 4}, {1, 5, 9, 2});
  for (const std::string name : {"llama_shared", "gpt2_bare"}) {
    CAPTURE(name);
    const auto model = load_decoder<float>(folder_of(name), DecoderHead::language, Rng(1));
    for (const auto& c : compressible_layers<float>(*model)) {
      const Rng rng = Rng(2).split(c.name);
      c.layer->factor(Var<float>(rng.split("a").normal<float>({3, c.layer->in()}, 0.2), true),
                      Var<float>(rng.split("b").normal<float>({c.layer->out(), 3}, 0.2), true),
                      Var<float>(rng.split("bias").normal<float>({c.layer->out()}, 0.1), true));
    }
    model->save(temp / name);
    const auto again = load_decoder<float>(temp / name, DecoderHead::language, Rng(2));
    CHECK(again->config().factored_ranks.size() == compressible_layers<float>(*model).size());
    const Tensor<float> expected = scores_of(*model, ids);
    CHECK(largest_difference(scores_of(*again, ids), cast<double>(expected)) < 1e-6);
    again->prepare_generation();
    CHECK(largest_difference(next_scores(*again, {1, 5, 9, 2}),
                             cast<double>(expected.reshape({4, 40}).rows(3, 4).reshape({40}))) <
          1e-5);
    std::vector<Var<float>> blocks;
    Pass pass;
    pass.watch(blocks);
    again->hidden(ids, {}, pass);
    CHECK(blocks.size() == 2);
  }
}

TEST_CASE("generation: the context window") {
  const auto model = load_decoder<float>(folder_of("llama_shared"), DecoderHead::language, Rng(1));
  GenerateOptions options;
  const std::vector<std::int32_t> prompt(10, 3);
  const auto filled = generate(*model, prompt, options);
  CHECK(filled.ids.size() == 2);
  CHECK(filled.stopped == "context");
  options.max_tokens = 3;
  CHECK_THROWS_WITH(generate(*model, prompt, options),
                    contains("the context window is of 12 tokens; the prompt has 10 and 3 more are "
                             "asked for; at most 2 fit"));
  CHECK_THROWS_WITH(generate(*model, std::vector<std::int32_t>(12, 3), {}),
                    contains("the prompt has 12, which leaves no room"));
  CHECK_THROWS_WITH(generate(*model, {}, {}), contains("a prompt of at least one token"));
  Pass pass;
  CHECK_THROWS_WITH(model->hidden(Tensor<std::int64_t>::zeros({1, 13}), {}, pass),
                    contains("expected at most 12 tokens a sequence, the context window; got 13"));
}

TEST_CASE("decoders train: a model learns a sequence by heart") {
  for (const bool gpt2 : {false, true}) {
    const auto model = gpt2 ? fresh_gpt2() : fresh_llama();
    const Tensor<std::int64_t> ids({2, 8}, {1, 7, 3, 9, 4, 8, 2, 6, 6, 2, 8, 4, 9, 3, 7, 1});
    AdamW<float> optimizer(one_group(model->named_parameters()), 2e-3);
    double loss = 0;
    for (int step = 0; step < 40; ++step) {
      Pass pass;
      const Var<float> value = model->language_loss(ids, pass);
      loss = static_cast<double>(value.item());
      backward(value);
      optimizer.step();
    }
    CHECK(loss < 0.5);
  }
}

TEST_CASE("decoders: folders that do not fit") {
  const parsimony::testing::TempFolder temp;
  const auto copy = [&](const std::string& name) {
    std::filesystem::copy(folder_of(name), (temp / name));
    return (temp / name);
  };
  const std::string llama = copy("llama_shared");
  const auto load = [&] { load_decoder<float>(llama, DecoderHead::language, Rng(1)); };
  TensorMap tensors = load_safetensors(llama + "/model.safetensors");
  TensorMap changed;
  for (const std::string& name : tensors.names()) {
    if (name == "model.layers.1.mlp.up_proj.weight") {
      changed.set("model.layers.1.mlp.up_prof.weight", tensors.get<float>(name));
    } else if (name == "model.norm.weight") {
      changed.set(name, Tensor<float>::ones({23}));
    } else {
      changed.set(name, tensors.get<float>(name));
    }
  }
  save_safetensors(llama + "/model.safetensors", changed);
  CHECK_THROWS_WITH(load(), contains("missing: model.layers.1.mlp.up_proj.weight"));
  CHECK_THROWS_WITH(load(), contains("unexpected: model.layers.1.mlp.up_prof.weight"));
  CHECK_THROWS_WITH(load(), contains("model.norm.weight is (23,), expected (24,)"));
  CHECK_THROWS_WITH(load_decoder<float>(folder_of("vit"), DecoderHead::language, Rng(1)),
                    contains("model_type: expected gpt2 or llama; got 'vit'"));
  // A head that is not in the file: fresh for a classifier, an error for a language model.
  LoadReport report;
  load_decoder<float>(folder_of("gpt2_bare"), DecoderHead::classifier, Rng(1), 5, &report);
  CHECK(report.fresh == std::vector<std::string>{"score.weight"});
  const std::string config = read_file(folder_of("llama_shared") + "/config.json");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = config;
    text.replace(text.find(from), from.size(), to);
    write_file_atomically((temp / "config.json"), text);
    return load_llama_config((temp / "config.json"));
  };
  CHECK_THROWS_WITH(with("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
                    contains("num_key_value_heads: expected a divisor"));
  CHECK_THROWS_WITH(with("\"rope_theta\": 500.0", "\"rope_scaling\": {\"rope_type\": \"llama3\"}"),
                    contains("rope_type: expected \"default\"; got \"llama3\""));
  CHECK(with("\"rope_theta\": 500.0", "\"rope_parameters\": {\"rope_theta\": 7.0}").rope_theta ==
        7.0);
}

TEST_CASE("decoders: weights spread over several files") {
  const parsimony::testing::TempFolder temp;
  std::filesystem::copy(folder_of("llama_own_head"), (temp / "m"));
  const TensorMap all = load_safetensors((temp / "m/model.safetensors"));
  TensorMap parts[2];
  std::string map;
  std::size_t i = 0;
  for (const std::string& name : all.names()) {
    parts[i % 2].set(name, all.get<float>(name));
    map += (map.empty() ? "" : ",") + json_quote(name) + ":\"part" + std::to_string(i++ % 2) +
           ".safetensors\"";
  }
  save_safetensors((temp / "m/part0.safetensors"), parts[0]);
  save_safetensors((temp / "m/part1.safetensors"), parts[1]);
  std::filesystem::remove((temp / "m/model.safetensors"));
  write_file_atomically((temp / "m/model.safetensors.index.json"),
                        "{\"weight_map\":{" + map + "}}");
  const auto model = load_decoder<float>((temp / "m"), DecoderHead::language, Rng(1));
  const auto whole =
      load_decoder<float>(folder_of("llama_own_head"), DecoderHead::language, Rng(1));
  const Tensor<std::int64_t> ids({1, 3}, {1, 5, 9});
  CHECK(scores_of(*model, ids).to_vector() == scores_of(*whole, ids).to_vector());
}

TEST_CASE("llama2.c's files: weights, and headers that are wrong") {
  const parsimony::testing::TempFolder temp;
  const std::string path = (temp / "model.bin");
  // dim 8, hidden 12, 2 layers, 2 heads of 4, 1 of keys, 16 tokens, 6 positions
  const std::size_t floats =
      16 * 8 + 2 * (8 + 8 * 8 + 2 * 4 * 8 + 8 * 8 + 8 + 3 * 12 * 8) + 8 + 6 * 4;
  write_file_atomically(path, llama2c_bytes({8, 12, 2, 2, 1, 16, 6}, floats));
  const auto model = load_llama2c<float>(path, DecoderHead::language, Rng(1));
  const Tensor<float> values = Rng(4).normal<float>({static_cast<index_t>(floats)});
  for (const auto& [name, var] : model->named_parameters()) {
    if (name == "model.embed_tokens.weight") {
      CHECK(std::equal(var.value().begin(), var.value().end(), values.begin()));
    }
    // Row 1 of a head of 4 comes from row 2, the next pair's first.
    if (name == "model.layers.0.self_attn.q_proj.weight") {
      const float* q = values.data() + 16 * 8 + 2 * 8;
      CHECK(std::equal(q + 2 * 8, q + 3 * 8, var.value().data() + 8));
    }
  }
  // Saved as a folder it is the same model.
  model->save((temp / "folder"));
  const auto again = load_decoder<float>((temp / "folder"), DecoderHead::language, Rng(1));
  const Tensor<std::int64_t> ids({1, 3}, {1, 5, 9});
  CHECK(scores_of(*model, ids).to_vector() == scores_of(*again, ids).to_vector());

  const auto refused = [&](const std::string& bytes, const std::string& message) {
    write_file_atomically(path, bytes);
    CHECK_THROWS_WITH(load_llama2c<float>(path, DecoderHead::language, Rng(1)), contains(message));
  };
  refused("short", "expected llama2.c's header of 28 bytes; the file has 5");
  refused(llama2c_bytes({8, 12, 0, 2, 1, 16, 6}, floats), "n_layers in 1..16777216; got 0");
  refused(llama2c_bytes({8, 12, 2, 3, 1, 16, 6}, floats), "n_heads a divisor of dim 8; got 3");
  refused(llama2c_bytes({8, 12, 2, 2, 1, 16, 6}, floats - 1), "expected 4608 bytes of weights");
  refused(llama2c_bytes({8, 12, 2, 2, 1, 16, 7}, floats), "the file has 4608");
  refused("24ka" + std::string(300, '\0'), "a later one (ak42)");
}

TEST_CASE("stories260K: the documented greedy text") {
  const std::string bin = find_data_file("", "stories260k/stories260K.bin");
  if (bin.empty()) {
    WARN("stories260k was not found: the documented text is not checked");
    return;
  }
  const LanguageModel model =
      load_language_model(std::filesystem::path(bin).parent_path().string());
  GenerateOptions options;
  options.max_tokens = 23;
  const Generated g = generate(*model.decoder, {1}, options);
  CHECK(g.ids == std::vector<std::int32_t>{403, 407, 261, 378, 432, 383, 286, 261,
                                           376, 298, 315, 421, 395, 317, 426, 338,
                                           401, 396, 267, 337, 410, 408, 419});
  CHECK(model.tokenizer->decode(g.ids).compare(
            0, 52, "Once upon a time, there was a little girl named Lily") == 0);
  const std::string text = "Lily's mom said, \"Let's go!\"\nZo\u00eb";
  CHECK(model.tokenizer->decode(model.tokenizer->ids(text)) == text);
}

TEST_CASE("adapters on decoders and vit: targets, training, folders and merging") {
  const auto count = [](Module<float>& model, const std::string& set) {
    return adapter_targets<float>(model, set).size();
  };
  const auto llama =
      load_decoder<float>(folder_of("llama_own_head"), DecoderHead::language, Rng(1));
  const auto gpt2 = load_decoder<float>(folder_of("gpt2_prefixed"), DecoderHead::language, Rng(1));
  const auto vit = load_vit<float>(folder_of("vit"), Rng(1));
  CHECK(count(*llama, "query-value") == 4);
  CHECK(count(*llama, "attention-mlp") == 14);
  CHECK(count(*llama, "all-linear") == 14);
  CHECK(count(*llama, "all-dense") == 14);
  CHECK(count(*llama, "up_proj,down_proj") == 4);
  CHECK(count(*gpt2, "query-value") == 2);
  CHECK(count(*gpt2, "all-linear") == 8);
  CHECK(count(*gpt2, "mlp.c_proj") == 2);
  CHECK(count(*vit, "query-value") == 4);
  CHECK(count(*vit, "all-linear") == 12);
  CHECK_THROWS_WITH(count(*llama, "q_prof"), contains("did you mean 'q_proj'?"));

  const parsimony::testing::TempFolder temp;
  const Tensor<std::int64_t> ids({2, 6}, {1, 7, 3, 9, 4, 8, 2, 6, 6, 2, 8, 4});
  for (const std::string& method : adapter_methods()) {
    for (const std::string name : {"llama_shared", "gpt2_prefixed"}) {
      CAPTURE(method, name);
      const auto load = [&] {
        return load_decoder<float>(folder_of(name), DecoderHead::language, Rng(1));
      };
      const auto model = load();
      AdapterOptions options;
      options.method = method;
      options.set("rank", index_t{2});
      const auto loss = [&] {
        Pass pass;
        return model->language_loss(ids, pass);
      };
      const auto gradients = probe_gradients<float>(*model, "all-linear", options, Rng(2), loss);
      attach_adapters<float>(*model, "all-linear", options, Rng(3), gradients);
      AdamW<float> optimizer(trainable_groups<float>(*model), 1e-2);
      for (int step = 0; step < 3; ++step) {
        backward(loss());
        optimizer.step();
      }
      const Tensor<float> trained = scores_of(*model, ids);
      CHECK(largest_difference(trained, cast<double>(scores_of(*load(), ids))) > 1e-5);
      const std::string folder = temp / (method + name);
      save_adapters<float>(*model, folder, "all-linear", options, {});
      const auto again = load();
      load_adapters<float>(*again, folder);
      CHECK(scores_of(*again, ids).to_vector() == trained.to_vector());
      again->save(folder + "/merged");
      const auto merged = load_decoder<float>(folder + "/merged", DecoderHead::language, Rng(1));
      CHECK(largest_difference(scores_of(*merged, ids), cast<double>(trained)) < 1e-4);
      merge_adapters<float>(*again);
      CHECK(scores_of(*again, ids).to_vector() == scores_of(*merged, ids).to_vector());
    }
  }
}
