// Batches of texts: what is in them, that they are a function of the step, and that their order and
// padding decide nothing.
#include <parsimony/batching.hpp>
#include <parsimony/error.hpp>

#include <algorithm>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using Rows = std::vector<index_t>;

namespace {

const WordPieceTokenizer& tokenizer() {
  static const WordPieceTokenizer t({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"});
  return t;
}

/// Text i has i + 1 words, or lengths[i].
std::vector<TextExample> texts(const std::vector<int>& lengths) {
  std::vector<TextExample> out;
  for (const int n : lengths) {
    std::string text;
    for (int i = 0; i < n; ++i) text += "a ";
    out.push_back({text, "b", static_cast<double>(n)});
  }
  return out;
}

EncodedExamples encoded(const std::vector<int>& lengths) {
  return encode_examples(tokenizer(), false, texts(lengths), 0);
}

}  // namespace

TEST_CASE("batching: too long is dropped and counted, or cut", "[batching]") {
  const auto examples = texts({1, 6, 2, 9});
  const EncodedExamples kept = encode_examples(tokenizer(), false, examples, 5);
  CHECK(kept.size() == 2);
  CHECK(kept.dropped == 2);
  CHECK(kept.source == Rows{0, 2});
  CHECK(kept.labels == std::vector<double>{1, 2});
  CHECK(kept.encodings[0].ids == std::vector<std::int32_t>{2, 5, 3});
  CHECK(encode_examples(tokenizer(), false, examples, 8).size() == 3);  // 6 words, [CLS], [SEP]
  const EncodedExamples cut = encode_examples(tokenizer(), true, examples, 7, TooLong::truncate);
  CHECK(cut.size() == 4);
  CHECK(cut.dropped == 0);
  CHECK(cut.length(3) == 7);
  CHECK(cut.encodings[0].type_ids == std::vector<std::int32_t>{0, 0, 0, 1, 1});
  CHECK(encode_examples(tokenizer(), true, examples, 0).length(3) == 13);
  CHECK_THROWS_WITH(encode_examples(tokenizer(), false, examples, 2),
                    contains("all 4 examples have more than 2 tokens"));
  CHECK_THROWS_AS(encode_examples(tokenizer(), false, examples, -1), ValueError);
  const EncodedExamples two = select_rows(kept, {1, 1});
  CHECK(two.source == Rows{2, 2});
  CHECK_THROWS_AS(select_rows(kept, {2}), ValueError);
}

TEST_CASE("batching: few-shot samples", "[batching]") {
  const Rng rng = Rng(3).split("sample");
  const Rows sample = sample_rows(1000, 256, true, rng);
  CHECK(sample == sample_rows(1000, 256, true, rng));
  CHECK(sample != sample_rows(1000, 256, true, Rng(4).split("sample")));
  CHECK(std::all_of(sample.begin(), sample.end(), [](index_t r) { return r >= 0 && r < 1000; }));
  // 256 of 1000 with replacement: about 226 different ones.
  const std::size_t different = std::set<index_t>(sample.begin(), sample.end()).size();
  CHECK(different > 205);
  CHECK(different < 246);
  const Rows without = sample_rows(1000, 256, false, rng);
  CHECK(std::set<index_t>(without.begin(), without.end()).size() == 256);
  for (const bool replacement : {true, false}) {
    Rows small = sample_rows(1000, 16, replacement, rng);
    Rows large = sample_rows(1000, 64, replacement, rng);
    large.resize(16);
    CHECK(small == large);
  }
  CHECK(sample_rows(2, 50, true, rng).size() == 50);
  CHECK_THROWS_AS(sample_rows(2, 3, false, rng), ValueError);
  CHECK_THROWS_AS(sample_rows(0, 1, true, rng), ValueError);
  CHECK_THROWS_AS(sample_rows(2, 0, true, rng), ValueError);
}

TEST_CASE("batching: a training step's rows are a function of the step", "[batching]") {
  const Rng rng = Rng(1).split("batches");
  const TrainingBatches batches(10, 4, rng);
  CHECK(batches.steps_per_epoch() == 2);
  std::vector<Rows> first;
  for (index_t step = 0; step < 20; ++step) first.push_back(batches.rows(step));
  // Out of order, as after a resume, and by another object.
  for (const index_t step : {19, 3, 4, 0, 11, 2}) {
    CHECK(TrainingBatches(10, 4, rng).rows(step) == first[static_cast<std::size_t>(step)]);
    CHECK(batches.rows(step) == first[static_cast<std::size_t>(step)]);
  }
  std::set<index_t> seen;
  std::set<Rows> orders;
  for (std::size_t epoch = 0; epoch < 10; ++epoch) {
    // No row twice in an epoch; two of ten are left out, not always the same.
    std::set<index_t> once;
    for (std::size_t b = 0; b < 2; ++b) {
      const Rows& rows = first[2 * epoch + b];
      CHECK(rows.size() == 4);
      once.insert(rows.begin(), rows.end());
    }
    CHECK(once.size() == 8);
    seen.insert(once.begin(), once.end());
    orders.insert(first[2 * epoch]);
  }
  CHECK(seen.size() == 10);
  CHECK(orders.size() == 10);
  CHECK(TrainingBatches(10, 4, Rng(2)).rows(0) != first[0]);
  CHECK(batches.rows(index_t{1} << 40).size() == 4);
}

TEST_CASE("batching: few examples are one full batch, always", "[batching]") {
  for (const index_t n : {3, 4}) {
    const TrainingBatches batches(n, 4, Rng(1));
    CHECK(batches.steps_per_epoch() == 1);
    CHECK(batches.batch_size() == n);
    Rows all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), index_t{0});
    for (const index_t step : {0, 1, 500}) CHECK(batches.rows(step) == all);
  }
  CHECK_THROWS_AS(TrainingBatches(0, 4, Rng(1)), ValueError);
  CHECK_THROWS_AS(TrainingBatches(4, 0, Rng(1)), ValueError);
  CHECK_THROWS_AS(TrainingBatches(4, 2, Rng(1)).rows(-1), ValueError);
}

TEST_CASE("batching: a batch is padded to its longest", "[batching]") {
  const EncodedExamples examples =
      encode_examples(tokenizer(), true, {{"a", "b", 2}, {"a b c", "c", 0.5}}, 0);
  const TextBatch batch = make_batch(examples, {1, 0}, 0);
  CHECK(batch.ids.shape() == Shape{2, 7});
  CHECK(batch.ids.to_vector() ==
        std::vector<std::int64_t>{2, 5, 6, 7, 3, 7, 3, 2, 5, 3, 6, 3, 0, 0});
  CHECK(batch.type_ids.to_vector() ==
        std::vector<std::int64_t>{0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0});
  CHECK(batch.mask.to_vector() ==
        std::vector<std::uint8_t>{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0});
  CHECK(batch.lengths == Rows{7, 5});
  CHECK(batch.rows == Rows{1, 0});
  CHECK(batch.targets<float>().shape() == Shape{2, 1});
  CHECK(batch.targets<double>().to_vector() == std::vector<double>{0.5, 2});
  CHECK_THROWS_WITH(batch.classes(), contains("got 0.5"));
  CHECK(make_batch(examples, {0, 0}, 0).classes().to_vector() == std::vector<std::int64_t>{2, 2});
  CHECK_FALSE(make_batch(examples, {0, 0}, 0).mask.defined());

  const TextBatch wide = make_batch(examples, {0}, 1, 6);
  CHECK(wide.ids.to_vector() == std::vector<std::int64_t>{2, 5, 3, 6, 3, 1});
  CHECK(wide.mask.to_vector() == std::vector<std::uint8_t>{1, 1, 1, 1, 1, 0});
  CHECK_THROWS_AS(make_batch(examples, {}, 0), ValueError);
  CHECK_THROWS_AS(make_batch(examples, {2}, 0), ValueError);
}

TEST_CASE("batching: evaluation by length pays for no padding and keeps the order", "[batching]") {
  std::vector<int> lengths;
  Rng rng(5);
  for (int i = 0; i < 203; ++i) lengths.push_back(1 + static_cast<int>(rng.below(40)));
  const EncodedExamples examples = encoded(lengths);
  index_t padded = 0;
  index_t real = 0;
  index_t before = 1000;
  std::set<index_t> rows;
  for (const Rows& batch_rows : batches_by_length(examples, 16)) {
    const TextBatch batch = make_batch(examples, batch_rows, 0);
    padded += batch.ids.size();
    real += std::accumulate(batch.lengths.begin(), batch.lengths.end(), index_t{0});
    CHECK(batch.lengths.front() <= before);
    before = batch.lengths.back();
    rows.insert(batch_rows.begin(), batch_rows.end());
  }
  CHECK(rows.size() == 203);
  CHECK(static_cast<double>(padded) < 1.1 * static_cast<double>(real));

  // A model that sums the ids it is shown: the same whatever the batch size, in the file's order.
  const auto model = [](const TextBatch& batch) {
    Tensor<double> out({batch.size(), 2});
    double* o = out.mutable_data();
    for (index_t i = 0; i < batch.size(); ++i) {
      const std::int64_t* ids = batch.ids.data() + i * batch.ids.dim(1);
      o[2 * i] = static_cast<double>(std::accumulate(ids, ids + batch.ids.dim(1), std::int64_t{0}));
      o[2 * i + 1] = batch.labels[static_cast<std::size_t>(i)];
    }
    return out;
  };
  const Tensor<double> all = evaluate_by_length<double>(examples, 1, 0, model);
  for (index_t i = 0; i < 203; ++i) {
    CHECK(all.at({i, 1}) == lengths[static_cast<std::size_t>(i)]);
    CHECK(all.at({i, 0}) == 5 + 5 * lengths[static_cast<std::size_t>(i)]);
  }
  for (const index_t size : {7, 16, 500}) {
    CHECK(evaluate_by_length<double>(examples, size, 0, model).to_vector() == all.to_vector());
  }
  const auto wrong = [](const TextBatch& batch) { return Tensor<float>::zeros({batch.size()}); };
  CHECK_THROWS_AS(evaluate_by_length<float>(examples, 4, 0, wrong), ShapeError);
  CHECK_THROWS_AS(batches_by_length(examples, 0), ValueError);
  CHECK(evaluate_by_length<double>({}, 4, 0, model).size() == 0);
}

TEST_CASE("batching: training sees the same examples however they are padded", "[batching]") {
  const EncodedExamples short_ones = encoded({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  const EncodedExamples other = encoded({9, 1, 9, 1, 9, 1, 9, 1, 9, 1});
  const TrainingBatches a(short_ones.size(), 4, Rng(7));
  const TrainingBatches b(other.size(), 4, Rng(7));
  for (index_t step = 0; step < 6; ++step) {
    CHECK(make_batch(short_ones, a.rows(step), 0).rows ==
          make_batch(other, b.rows(step), 0, 64).rows);
  }
}
