// Where the weights of new models come from: what is postponed has the bits that it has when it is
// drawn at once, and so has the fresh head of a model that is read from a file.
#include <parsimony/decoder.hpp>
#include <parsimony/files.hpp>
#include <parsimony/vit.hpp>

#include <algorithm>
#include <cstring>

#include "support/catch.hpp"
#include "support/fixtures.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

template <class T>
void check_postponed() {
  const Rng rng(3);
  const Initializer at_once = Initializer(rng).split("layer").split(1);
  const Initializer later = Initializer::postponed(rng).split("layer").split(1);
  const Tensor<T> expected = at_once.normal<T>({2, 3}, 0.5);
  CHECK(expected.to_vector() == rng.split("layer").split(1).normal<T>({2, 3}, 0.5).to_vector());

  Tensor<T> weights = later.normal<T>({2, 3}, 0.5);
  const Tensor<T> others = later.split("other").template normal<T>({2, 3}, 0.5);
  for (const Tensor<T>& t : {weights, others}) {
    Tensor<T> handle = t;
    std::fill_n(handle.mutable_data(), 6, T(9));
  }
  later.draw(Tensor<T>::zeros({2, 3}));  // not of this initializer
  CHECK(weights.to_vector() == std::vector<T>(6, T(9)));
  later.draw(weights);
  CHECK(weights.to_vector() == expected.to_vector());
  CHECK(others.to_vector() == std::vector<T>(6, T(9)));
  at_once.draw(others);  // nothing was postponed
  CHECK(others.to_vector() == std::vector<T>(6, T(9)));
}

/// A parameter's values in two models are the same, and no zeros.
void check_head(const std::string& name, const Module<float>& loaded, const Module<float>& fresh) {
  const auto values = [&](const Module<float>& model) {
    for (const auto& [its, var] : model.named_parameters()) {
      if (its == name) return var.value().to_vector();
    }
    return std::vector<float>();
  };
  const std::vector<float> found = values(loaded);
  REQUIRE_FALSE(found.empty());
  CHECK(found == values(fresh));
  CHECK(std::count(found.begin(), found.end(), 0.0F) == 0);
}

}  // namespace

TEST_CASE("initializer: postponed draws are those that are made at once") {
  check_postponed<float>();
  check_postponed<double>();
}

// BERT's: test_bert_files.cpp.
TEST_CASE("initializer: a head that the file lacks is a fresh model's") {
  const Rng rng(7);
  constexpr auto head = DecoderHead::classifier;
  const auto gpt2 = load_decoder<float>(fixture("decoders/gpt2_bare"), head, rng, 5);
  check_head("score.weight", *gpt2,
             Gpt2<float>(dynamic_cast<Gpt2<float>&>(*gpt2).config(), head, rng));
  const auto llama = load_decoder<float>(fixture("decoders/llama_shared"), head, rng, 5);
  check_head("score.weight", *llama,
             Llama<float>(dynamic_cast<Llama<float>&>(*llama).config(), head, rng));
  const auto vit = load_vit<float>(fixture("decoders/vit"), rng, 5);
  check_head("classifier.weight", *vit, Vit<float>(vit->config(), rng));

  // In llama2.c's format: dim 8, hidden 12, 2 layers, 2 heads, 1 of keys, 16 tokens, 6 positions.
  const std::int32_t header[] = {8, 12, 2, 2, 1, 16, 6};
  std::string bytes(sizeof header + 4608, '\0');
  std::memcpy(bytes.data(), header, sizeof header);
  const TempFolder folder;
  write_file_atomically(folder / "model.bin", bytes);
  const auto old = load_llama2c<float>(folder / "model.bin", head, rng);
  check_head("score.weight", *old,
             Llama<float>(dynamic_cast<Llama<float>&>(*old).config(), head, rng));
}
