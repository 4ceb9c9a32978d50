// PC-LoRA's layers: what they compute as the weight decays, and that it is gone in the end.
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/gradcheck.hpp>
#include <parsimony/pc_lora.hpp>

#include <cmath>

#include "support/catch.hpp"
#include "support/small_bert.hpp"

using namespace parsimony;
using namespace parsimony::testing;

TEST_CASE("pc-lora: schedules go from 1 to 0") {
  for (const std::string& name : decay_schedules()) {
    CHECK(decay_factor(name, 0) == 1);
    CHECK(decay_factor(name, 1) == 0);
    CHECK(decay_factor(name, 1.5) == 0);
  }
  CHECK(decay_factor("linear", 0.25) == 0.75);
  CHECK(decay_factor("sine", 0.5) == Approx(1 - std::sqrt(0.5)));
  CHECK(decay_factor("1-cosine", 0.5) == Approx(std::sqrt(0.5)));
  CHECK(decay_factor("identity", 0.99) == 1);
  CHECK_THROWS_WITH(decay_factor("sin", 0), contains("did you mean 'sine'"));
}

TEST_CASE("pc-lora: the layer is λ (W x + b) + B A x + c, with its gradients") {
  const Rng rng(2);
  for (const bool with_bias : {true, false}) {
    for (const double share : {1.0, 0.3, 0.0}) {
      INFO("share " << share);
      Rng draws = rng.split("values");
      const Var<double> w(draws.normal<double>({5, 4}));
      const Var<double> b = with_bias ? Var<double>(draws.normal<double>({5})) : Var<double>();
      PcLora<double> layer({5, 4}, 2, rng.split("layer"));
      layer.set_share(share);
      const Tensor<double> up = draws.normal<double>({5, 2});
      const Tensor<double> bias = draws.normal<double>({5});
      const Tensor<double> x = draws.normal<double>({3, 4});
      Pass pass;
      const auto f = [&](const std::vector<Var<double>>& v) {
        layer.down = v[1];
        layer.up = v[2];
        layer.bias = v[3];
        return layer.linear(v[0], w, b, pass);
      };
      const std::vector<Tensor<double>> at{x, layer.down.value(), up, bias};
      std::vector<Var<double>> leaves;
      for (const auto& t : at) leaves.emplace_back(t);
      const Tensor<double> base = with_bias ? add(matmul(x, w.value(), false, true), b.value())
                                            : matmul(x, w.value(), false, true);
      const Tensor<double> expected = add(add(scale(base, share), bias),
                                          matmul(matmul(x, at[1], false, true), up, false, true));
      CHECK(max_abs(sub(f(leaves).value(), expected)) < 1e-12);
      const auto result = gradcheck(f, at, rng.split("check"));
      INFO(result.message);
      CHECK(result.ok);
    }
  }
  PcLora<double> layer({5, 4}, 2, rng);
  CHECK_THROWS_AS(layer.set_share(1.1), ValueError);
  CHECK_THROWS_AS(PcLora<double>({5, 4}, 5, rng), ValueError);
}

TEST_CASE("pc-lora: equal to the model at first, a factored one without the weights at last") {
  Bert<double> model(small_bert(), BertHead::classifier, Rng(2));
  const TokenBatch tokens = small_batch();
  const auto outputs = [&] {
    Pass pass;
    return model.logits(tokens, pass).value();
  };
  const Tensor<double> original = outputs();
  FactoredRanks ranks;
  for (const auto& l : compressible_layers(model)) ranks[l.name] = 2;
  CHECK(ranks.size() == 12);
  attach_pc_lora(model, ranks, Rng(3));
  CHECK(max_abs(sub(outputs(), original)) < 1e-14);
  index_t trained = 0;
  for (const auto& l : compressible_layers(model)) {
    trained += 2 * (l.layer->in() + l.layer->out()) + l.layer->out();
  }
  CHECK(model.parameter_count() == trained);
  // The blocks of the model can be watched.
  std::vector<Var<double>> blocks;
  Pass pass;
  pass.watch(blocks);
  model.hidden(tokens, pass);
  CHECK(blocks.size() == 2);

  Rng rng(7);
  for (auto& [name, var] : model.named_parameters()) {
    if (var.requires_grad()) var.assign(rng.normal<double>(var.shape(), 0.4));
  }
  set_base_share(model, 0);
  const Tensor<double> without = outputs();
  CHECK(max_abs(sub(without, original)) > 1e-3);
  std::vector<Var<double>> handles;
  for (const auto& l : compressible_layers(model)) {
    handles.push_back(dynamic_cast<PcLora<double>&>(*l.layer->adapter()).up);
  }
  drop_bases(model);
  CHECK(factored_ranks(model) == ranks);
  // The last layer's attention sums in another order where it may use the pairs (class_attention).
  CHECK(max_abs(sub(outputs(), without)) < 1e-13);
  const auto layers = compressible_layers(model);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    CHECK(layers[i].layer->expand().weight.node() == handles[i].node());
    CHECK_FALSE(layers[i].layer->weight.defined());
  }
  CHECK_THROWS_AS(attach_pc_lora(model, ranks, Rng(3)), ValueError);
}
