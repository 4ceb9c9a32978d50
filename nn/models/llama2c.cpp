// LLaMAs in llama2.c's first format: a header of seven int32, then every weight in float32, each
// kind for all layers.
#include <parsimony/decoder.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

namespace parsimony {

namespace {

constexpr std::size_t header_size = 7 * sizeof(std::int32_t);

LlamaConfig read_header(const std::string& path, const std::string& bytes) {
  const auto fail = [&](const std::string& what) {
    throw InputError(fmt::format("'{}': {}", path, what));
  };
  std::int32_t h[7] = {};
  if (bytes.size() < header_size) {
    fail(fmt::format("expected llama2.c's header of {} bytes; the file has {}", header_size,
                     bytes.size()));
  }
  std::memcpy(h, bytes.data(), header_size);
  if (bytes.compare(0, 4, "24ka") == 0) {
    fail(
        "expected llama2.c's first format; this file is of a later one (ak42): export it with "
        "--version 0");
  }
  constexpr const char* names[] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                                   "n_kv_heads", "vocab_size", "seq_len"};
  for (int i = 0; i < 7; ++i) {
    const std::int64_t size = i == 5 ? std::abs(static_cast<std::int64_t>(h[i])) : h[i];
    if (size < 1 || size > 1 << 24) {
      fail(fmt::format("expected llama2.c's header: {} in 1..{}; got {}", names[i], 1 << 24, h[i]));
    }
  }
  LlamaConfig c;
  c.hidden_size = h[0];
  c.intermediate_size = h[1];
  c.layers = h[2];
  c.heads = h[3];
  c.kv_heads = h[4];
  c.vocab_size = std::abs(static_cast<std::int64_t>(h[5]));
  c.positions = h[6];
  c.tied = h[5] > 0;
  c.norm_eps = 1e-5;
  c.bos_id = 1;
  c.eos_id = 2;
  if (c.hidden_size % c.heads != 0) {
    fail(fmt::format("expected llama2.c's header: n_heads a divisor of dim {}; got {}",
                     c.hidden_size, c.heads));
  }
  c.head_width = c.hidden_size / c.heads;
  try {
    c.check();
  } catch (const ValueError& e) {
    fail(fmt::format("expected llama2.c's header: {}", e.what()));
  }
  return c;
}

/// Hands out the floats of the file one after the other.
class Weights {
 public:
  explicit Weights(const std::string& bytes) : at_(bytes.data() + header_size) {}
  template <class T>
  Tensor<T> take(const Shape& shape) {
    Tensor<float> out(shape);
    std::memcpy(out.mutable_data(), at_, static_cast<std::size_t>(out.size()) * sizeof(float));
    at_ += static_cast<std::size_t>(out.size()) * sizeof(float);
    return cast<T>(out);
  }
  void skip(index_t count) { at_ += static_cast<std::size_t>(count) * sizeof(float); }

 private:
  const char* at_;
};

/// Rows of each head from adjacent pairs (2t, 2t + 1) to halves (t, t + half).
template <class T>
Tensor<T> to_halves(const Tensor<T>& w, index_t head_width) {
  Tensor<T> out(w.shape());
  const index_t cols = w.dim(1);
  const index_t half = head_width / 2;
  for (index_t r = 0; r < w.dim(0); ++r) {
    const index_t in_head = r % head_width;
    const index_t from = r - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
    std::memcpy(out.mutable_data() + r * cols, w.data() + from * cols,
                static_cast<std::size_t>(cols) * sizeof(T));
  }
  return out;
}

}  // namespace

template <class T>
std::unique_ptr<Decoder<T>> load_llama2c(const std::string& path, DecoderHead head,
                                         const Rng& rng) {
  const std::string bytes = read_file(path);
  const LlamaConfig c = read_header(path, bytes);
  const index_t d = c.hidden_size;
  const index_t f = c.intermediate_size;
  const index_t kv = c.kv_heads * c.head_width;
  const double expected =
      4.0 * (static_cast<double>(c.vocab_size) * static_cast<double>(d) * (c.tied ? 1 : 2) +
             static_cast<double>(c.layers) *
                 static_cast<double>(2 * d + 2 * d * d + 2 * d * kv + 3 * d * f) +
             static_cast<double>(d + c.positions * c.head_width));
  if (static_cast<double>(bytes.size() - header_size) != expected) {
    throw InputError(fmt::format(
        "'{}': expected {:.0f} bytes of weights, as llama2.c's header says (dim {}, hidden_dim {}, "
        "n_layers {}, n_heads {}, n_kv_heads {}, vocab_size {}, seq_len {}); the file has {}",
        path, expected, d, f, c.layers, c.heads, c.kv_heads, c.vocab_size, c.positions,
        bytes.size() - header_size));
  }
  const Initializer init = Initializer::postponed(rng);
  auto model = std::make_unique<Llama<T>>(c, head, init);
  std::map<std::string, Var<T>> parameters;  // not yet set
  for (const auto& [name, var] : model->named_parameters()) parameters.emplace(name, var);
  Weights weights(bytes);
  const auto set = [&](const std::string& name, const Tensor<T>& value) {
    const auto found = parameters.find(name);
    if (found == parameters.end()) return;
    found->second.assign(value);
    parameters.erase(found);
  };
  const auto each_layer = [&](const std::string& name, const Shape& shape, index_t permuted = 0) {
    for (index_t i = 0; i < c.layers; ++i) {
      const Tensor<T> w = weights.take<T>(shape);
      set(fmt::format("model.layers.{}.{}.weight", i, name),
          permuted > 0 ? to_halves(w, permuted) : w);
    }
  };
  set("model.embed_tokens.weight", weights.take<T>({c.vocab_size, d}));
  each_layer("input_layernorm", {d});
  each_layer("self_attn.q_proj", {d, d}, c.head_width);
  each_layer("self_attn.k_proj", {kv, d}, c.head_width);
  each_layer("self_attn.v_proj", {kv, d});
  each_layer("self_attn.o_proj", {d, d});
  each_layer("post_attention_layernorm", {d});
  each_layer("mlp.gate_proj", {f, d});
  each_layer("mlp.down_proj", {d, f});
  each_layer("mlp.up_proj", {f, d});
  set("model.norm.weight", weights.take<T>({d}));
  weights.skip(c.positions * c.head_width);  // tables of rotary positions, which are computed
  if (!c.tied) set("lm_head.weight", weights.take<T>({c.vocab_size, d}));
  for (const auto& [name, var] : parameters) init.draw(var.value());  // a classification head
  return model;
}

template std::unique_ptr<Decoder<float>> load_llama2c(const std::string&, DecoderHead, const Rng&);
template std::unique_ptr<Decoder<double>> load_llama2c(const std::string&, DecoderHead, const Rng&);

}  // namespace parsimony
