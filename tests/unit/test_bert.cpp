// BERT against an independent implementation in double precision (tests/support/bert_reference.py
// wrote the models and the numbers in tests/fixtures/bert), and what must not change its numbers:
// padding, the size of a batch, training or not where dropout is off.
#include <parsimony/batching.hpp>
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/ops.hpp>

#include <algorithm>
#include <cmath>

#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/numbers.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::fixture;
using parsimony::testing::largest_difference;

namespace {

struct Case {
  const char* name;
  BertHead head;
};
const Case cases[] = {
    {"prefixed", BertHead::classifier},     {"bare_old_names", BertHead::classifier},
    {"regression", BertHead::classifier},   {"three_types", BertHead::classifier},
    {"rectified", BertHead::classifier},    {"masked_lm", BertHead::masked_lm},
    {"masked_lm_half", BertHead::masked_lm}};

/// Over the tokens that count.
template <class T>
double largest_difference_of_hidden(const Tensor<T>& found, const Tensor<double>& expected,
                                    const Tensor<std::uint8_t>& mask) {
  REQUIRE(found.shape() == expected.shape());
  const index_t width = found.dim(2);
  double most = 0;
  for (index_t i = 0; i < found.size(); ++i) {
    if (mask.data()[i / width] == 0) continue;
    most = std::max(most, std::abs(static_cast<double>(found.data()[i]) - expected.data()[i]));
  }
  return most;
}

TokenBatch batch_of(const TensorMap& expected, const std::string& name) {
  TokenBatch batch{expected.get<std::int64_t>(name + ".ids"),
                   expected.get<std::int64_t>(name + ".types"),
                   expected.get<std::uint8_t>(name + ".mask")};
  const bool padded =
      std::any_of(batch.mask.begin(), batch.mask.end(), [](auto m) { return m == 0; });
  if (!padded) batch.mask = {};
  return batch;
}

template <class T>
void check_bert_parity(double tolerance) {
  for (const Case& c : cases) {
    const std::string folder = fixture(std::string("bert/") + c.name);
    const auto model = load_bert<T>(folder, c.head, Rng(1));
    const TensorMap expected = load_safetensors(folder + "/expected.safetensors");
    for (const std::string name : {"one_text", "padded", "holes"}) {
      CAPTURE(c.name, name);
      const TokenBatch batch = batch_of(expected, name);
      Pass pass;
      const Tensor<double>& logits = expected.get<double>(name + ".logits");
      const double rms =
          std::sqrt(sum(square(Var<double>(logits))).item() / static_cast<double>(logits.size()));
      CHECK(rms > 0.3);  // of unit scale, so that the tolerance means something
      CHECK(rms < 3);
      const Tensor<T> found =
          c.head == BertHead::classifier
              ? model->logits(batch, pass).value()
              : model->masked_logits(batch, expected.get<std::int64_t>(name + ".places"), pass)
                    .value();
      CHECK(largest_difference(found, logits) < tolerance);
      CHECK(largest_difference_of_hidden(model->hidden(batch, pass).value(),
                                         expected.get<double>(name + ".hidden"),
                                         expected.get<std::uint8_t>(name + ".mask")) < tolerance);
    }
  }
}

/// A small model with dropout in its config, and texts of many lengths.
struct Small {
  Small() {
    config.vocab_size = 30;
    config.hidden_size = 21;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 3;
    config.intermediate_size = 37;
    config.max_position_embeddings = 24;
    config.initializer_range = 0.3;
    config.hidden_dropout_prob = 0.3;
    config.attention_probs_dropout_prob = 0.3;
    Rng draw(5);
    for (int i = 0; i < 23; ++i) {
      const index_t length = 1 + draw.below(24);
      Encoding e;
      for (index_t j = 0; j < length; ++j) {
        e.ids.push_back(static_cast<std::int32_t>(draw.below(30)));
        e.type_ids.push_back(2 * j < length ? 0 : 1);
      }
      examples.encodings.push_back(e);
      examples.labels.push_back(0);
      examples.source.push_back(i);
    }
  }
  BertConfig config;
  EncodedExamples examples;
};

TokenBatch tokens(const TextBatch& batch) { return {batch.ids, batch.type_ids, batch.mask}; }

template <class T>
Tensor<T> evaluated(const Bert<T>& model, const EncodedExamples& examples, index_t batch,
                    index_t pad_to) {
  return evaluate_by_length<T>(examples, batch, 0, [&](const TextBatch& b) {
    Pass pass;
    return model.logits(tokens(make_batch(examples, b.rows, 0, pad_to)), pass).value();
  });
}

}  // namespace

TEST_CASE("bert: logits and hidden states are those of the independent implementation, in float",
          "[bert]") {
  check_bert_parity<float>(2e-5);
}

TEST_CASE("bert: and in double to rounding", "[bert]") { check_bert_parity<double>(1e-12); }

TEST_CASE("bert: padding and batching by length change nothing", "[bert]") {
  Small s;
  const Bert<float> model(s.config, BertHead::classifier, Rng(3));
  const Bert<double> model64(s.config, BertHead::classifier, Rng(3));
  const Tensor<float> alone = evaluated(model, s.examples, 1, 0);
  const Tensor<double> alone64 = evaluated(model64, s.examples, 1, 0);
  for (const auto& [batch, pad_to] :
       {std::pair<index_t, index_t>{1, 24}, {4, 0}, {7, 24}, {64, 0}}) {
    CAPTURE(batch, pad_to);
    CHECK(largest_difference(evaluated(model, s.examples, batch, pad_to), alone) < 2e-6);
    CHECK(largest_difference(evaluated(model64, s.examples, batch, pad_to), alone64) < 4e-15);
  }
  // What stands at padding is not looked at.
  EncodedExamples some = s.examples;
  const TextBatch batch = make_batch(some, {0, 1, 2, 3}, 0, 24);
  TokenBatch other = tokens(batch);
  other.ids = batch.ids.clone();
  for (index_t i = 0; i < other.ids.size(); ++i) {
    if (other.mask.data()[i] == 0) other.ids.mutable_data()[i] = 17;
  }
  Pass pass;
  CHECK(largest_difference(model.logits(other, pass).value(),
                           model.logits(tokens(batch), pass).value()) == 0);
}

TEST_CASE("bert: padding and the batch change no gradient either", "[bert]") {
  Small s;
  s.config.hidden_dropout_prob = 0;
  s.config.attention_probs_dropout_prob = 0;
  Bert<double> model(s.config, BertHead::classifier, Rng(3));
  const std::vector<index_t> rows = {0, 1, 2, 3, 4};
  const auto gradients = [&](index_t at_a_time, index_t pad_to) {
    for (std::size_t at = 0; at < rows.size(); at += static_cast<std::size_t>(at_a_time)) {
      const std::vector<index_t> some(
          rows.begin() + static_cast<long>(at),
          rows.begin() +
              static_cast<long>(std::min(rows.size(), at + static_cast<std::size_t>(at_a_time))));
      Pass pass;
      backward(sum(square(model.logits(tokens(make_batch(s.examples, some, 0, pad_to)), pass))));
    }
    std::vector<Tensor<double>> out;
    for (auto& [name, var] : model.named_parameters()) {
      out.push_back(var.grad().clone());
      var.zero_grad();
    }
    return out;
  };
  const auto alone = gradients(1, 0);
  for (const auto& [batch, pad_to] : {std::pair<index_t, index_t>{5, 0}, {2, 24}}) {
    const auto found = gradients(batch, pad_to);
    for (std::size_t i = 0; i < alone.size(); ++i) {
      CHECK(largest_difference(found[i], alone[i]) < 1e-12);
    }
  }
}

TEST_CASE("bert: a sequence without any token that counts is harmless", "[bert]") {
  Small s;
  Bert<double> model(s.config, BertHead::classifier, Rng(3));
  TextBatch two = make_batch(s.examples, {0, 1}, 0, 24);
  TokenBatch masked = tokens(two);
  masked.mask = two.mask.clone();
  std::fill_n(masked.mask.mutable_data() + 24, 24, std::uint8_t{0});
  Pass pass;
  const Var<double> logits = model.logits(masked, pass);
  const Tensor<double> before = model.logits(tokens(two), pass).value();
  for (index_t j = 0; j < 2; ++j) {
    CHECK(std::isfinite(logits.value().at({1, j})));
    CHECK(logits.value().at({0, j}) == before.at({0, j}));
  }
  backward(sum(logits));
  for (auto& [name, var] : model.named_parameters()) {
    const Tensor<double> g = var.grad();
    CHECK(std::all_of(g.begin(), g.end(), [](double x) { return std::isfinite(x); }));
  }
}

TEST_CASE("bert: dropout acts in training alone, by its stream", "[bert]") {
  Small s;
  const Bert<float> model(s.config, BertHead::classifier, Rng(3));
  const TokenBatch batch = tokens(make_batch(s.examples, {0, 1, 2}, 0));
  const auto run = [&](Pass pass) { return model.logits(batch, pass).value(); };
  CHECK(largest_difference(run(Pass()), run(Pass())) == 0);
  const Tensor<float> one = run(Pass(Rng(1)));
  CHECK(largest_difference(one, run(Pass(Rng(1)))) == 0);
  CHECK(largest_difference(one, run(Pass(Rng(2)))) > 1e-3);
  CHECK(largest_difference(one, run(Pass())) > 1e-3);

  BertConfig without = s.config;
  without.hidden_dropout_prob = 0;
  without.attention_probs_dropout_prob = 0;
  const Bert<float> plain(without, BertHead::classifier, Rng(3));
  Pass training(Rng(1));
  CHECK(largest_difference(plain.logits(batch, training).value(), run(Pass())) == 0);

  // The share that is kept, by each of the two probabilities alone, keeps the mean: outputs of many
  // streams scatter around those of evaluation.
  for (const bool hidden : {true, false}) {
    BertConfig one_kind = without;
    (hidden ? one_kind.hidden_dropout_prob : one_kind.attention_probs_dropout_prob) = 0.2;
    const Bert<float> dropping(one_kind, BertHead::classifier, Rng(3));
    Pass pass(Rng(9));
    CHECK(largest_difference(dropping.logits(batch, pass).value(), run(Pass())) > 1e-4);
  }
}

TEST_CASE("bert: what forward refuses", "[bert]") {
  Small s;
  const Bert<float> model(s.config, BertHead::classifier, Rng(3));
  const Bert<float> language(s.config, BertHead::masked_lm, Rng(3));
  Pass pass;
  const auto zeros = [](index_t batch, index_t length) {
    return TokenBatch{Tensor<std::int64_t>::zeros({batch, length}),
                      Tensor<std::int64_t>::zeros({batch, length}),
                      {}};
  };
  CHECK_THROWS_AS(model.logits(zeros(1, 25), pass), ShapeError);
  CHECK_THROWS_WITH(model.logits(zeros(1, 25), pass), contains("at most 24 tokens"));
  CHECK_NOTHROW(model.logits(zeros(1, 24), pass));
  TokenBatch odd = zeros(2, 3);
  odd.type_ids = Tensor<std::int64_t>::zeros({2, 4});
  CHECK_THROWS_AS(model.logits(odd, pass), ShapeError);
  odd = zeros(2, 3);
  odd.mask = Tensor<std::uint8_t>::zeros({3, 2});
  CHECK_THROWS_AS(model.logits(odd, pass), ShapeError);
  for (const std::int64_t bad : {-1, 30}) {
    TokenBatch ids = zeros(1, 2);
    ids.ids.mutable_data()[1] = bad;
    CHECK_THROWS_AS(model.logits(ids, pass), ValueError);
    TokenBatch types = zeros(1, 2);
    types.type_ids.mutable_data()[1] = bad < 0 ? bad : 2;
    CHECK_THROWS_AS(model.logits(types, pass), ValueError);
  }
  const Tensor<std::int64_t> outside({1}, {2});
  CHECK_THROWS_AS(language.masked_logits(zeros(1, 2), outside, pass), ValueError);
  CHECK_THROWS_WITH(language.logits(zeros(1, 2), pass), contains("no classification head"));
  CHECK_THROWS_WITH(model.masked_logits(zeros(1, 2), Tensor<std::int64_t>({1}, {0}), pass),
                    contains("no masked-language-model head"));
}
