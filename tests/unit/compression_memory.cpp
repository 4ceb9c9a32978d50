// Compressed Deep LoRA on the embedding of BERT-base-cased, 28,996 x 768, where a factor of full
// width alone has 89 MB: one gradient pass, the outer factors and training steps take the memory of
// the adapter and of the batch. Its own program, because it asks for the peak of the process.
#include <parsimony/adapter.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>

#include <sys/resource.h>

#include "support/adapters.hpp"
#include "support/catch.hpp"

namespace {

using namespace parsimony;

double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

struct Table : Module<float> {
  Table(index_t count, index_t width) : words(count, width, Rng(1), 0.02) {
    this->child("words", words);
  }
  Embedding<float> words;
};

TEST_CASE("compressing an embedding of 28,996 x 768 takes the memory of the adapter") {
  const index_t count = 28996;
  const index_t width = 768;
  Table model(count, width);
  Tensor<std::int64_t> ids({8, 64});
  Rng draw(2);
  for (index_t i = 0; i < ids.size(); ++i) ids.mutable_data()[i] = draw.below(count);
  const Tensor<float> target = draw.normal<float>({8, 64, width});
  const auto loss = [&] { return mean_squared_error(model.words(ids), target); };

  const testing::AdapterKind kind{"", "deep-lora", "compressed", ""};
  const AdapterOptions options = testing::adapter_options_of(kind, 8, 0.3);
  const double before = peak_megabytes();
  const auto gradients = probe_gradients<float>(model, "words", options, Rng(3), loss);
  attach_adapters<float>(model, "words", options, Rng(4), gradients);
  const double compressed = peak_megabytes() - before;
  AdamW<float> optimizer(trainable_groups<float>(model), 1e-2, 0.9, 0.999, 1e-6);
  const float start = loss().item();
  for (int step = 0; step < 30; ++step) {
    backward(loss());
    optimizer.step();
  }
  const double trained = peak_megabytes() - before;
  CHECK(model.parameter_count() == 8 * (count + width) + 3 * 8 * 8);
  const double adapter = static_cast<double>(model.parameter_count()) * sizeof(float) / (1 << 20);
  const double weight = static_cast<double>(count * width) * sizeof(float) / (1 << 20);
  UNSCOPED_INFO("adapter " << adapter << " MB, weight " << weight << " MB; peak grew by "
                           << compressed << " MB compressing, " << trained << " MB in all");
  CHECK(before > weight);  // the peak was asked for with the weight in memory
  CHECK(compressed < 32);
  CHECK(trained < 40);
  CHECK(loss().item() < start);
}

}  // namespace
