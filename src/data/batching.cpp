// Batches, see the header.
#include <parsimony/batching.hpp>

#include <parsimony/error.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

namespace parsimony {

namespace {

const Encoding& encoding(const EncodedExamples& examples, index_t row) {
  if (row < 0 || row >= examples.size()) {
    throw ValueError(fmt::format("batch: row {} is outside [0, {})", row, examples.size()));
  }
  return examples.encodings[static_cast<std::size_t>(row)];
}

/// The images at some rows; undefined for texts.
Tensor<float> pixels_of(const EncodedExamples& examples, const std::vector<index_t>& rows) {
  if (!examples.pixels.defined()) return {};
  Shape shape = examples.pixels.shape();
  const index_t size = examples.pixels.size() / shape[0];
  shape.set(0, static_cast<index_t>(rows.size()));
  Tensor<float> out(shape);
  float* to = out.mutable_data();
  for (const index_t row : rows) to = std::copy_n(examples.pixels.data() + row * size, size, to);
  return out;
}

}  // namespace

EncodedExamples encode_examples(const Tokenizer& tokenizer, bool pair,
                                const std::vector<TextExample>& examples, index_t max_length,
                                TooLong too_long) {
  if (max_length < 0) {
    throw ValueError(fmt::format("encode: expected a length >= 0; got {}", max_length));
  }
  EncodedExamples out;
  const index_t cut = too_long == TooLong::truncate ? max_length : 0;
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const TextExample& example = examples[i];
    Encoding e = pair ? tokenizer.encode(example.first, example.second, cut)
                      : tokenizer.encode(example.first, {}, cut);
    if (max_length > 0 && static_cast<index_t>(e.ids.size()) > max_length) {
      ++out.dropped;
      continue;
    }
    out.encodings.push_back(std::move(e));
    out.labels.push_back(example.label);
    out.source.push_back(static_cast<index_t>(i));
  }
  if (out.size() == 0 && out.dropped > 0) {
    throw ValueError(
        fmt::format("encode: all {} examples have more than {} tokens; allow more, or cut them",
                    out.dropped, max_length));
  }
  return out;
}

EncodedExamples select_rows(const EncodedExamples& examples, const std::vector<index_t>& rows) {
  EncodedExamples out;
  for (const index_t row : rows) {
    out.encodings.push_back(encoding(examples, row));
    out.labels.push_back(examples.labels[static_cast<std::size_t>(row)]);
    out.source.push_back(examples.source[static_cast<std::size_t>(row)]);
  }
  out.pixels = pixels_of(examples, rows);
  return out;
}

std::vector<index_t> sample_rows(index_t count, index_t n, bool with_replacement, const Rng& rng) {
  if (n < 1 || count < 1 || (!with_replacement && n > count)) {
    throw ValueError(fmt::format(
        "sample: expected 1 to {} of {} rows; got {}",
        with_replacement ? std::string("any number") : fmt::to_string(count), count, n));
  }
  Rng draw = rng;
  std::vector<index_t> rows;
  if (with_replacement) {
    rows.reserve(static_cast<std::size_t>(n));
    for (index_t i = 0; i < n; ++i) rows.push_back(draw.below(count));
  } else {
    rows = draw.permutation(count);
    rows.resize(static_cast<std::size_t>(n));
  }
  return rows;
}

TrainingBatches::TrainingBatches(index_t n, index_t batch_size, const Rng& rng)
    : n_(n), batch_size_(std::min(n, batch_size)), steps_per_epoch_(0), rng_(rng) {
  if (n < 1 || batch_size < 1) {
    throw ValueError(
        fmt::format("batches: expected at least one example and a batch size >= 1; "
                    "got {} and {}",
                    n, batch_size));
  }
  steps_per_epoch_ = n_ / batch_size_;
}

std::vector<index_t> TrainingBatches::rows(index_t step) const {
  if (step < 0) throw ValueError(fmt::format("batches: expected a step >= 0; got {}", step));
  if (batch_size_ == n_) {
    std::vector<index_t> all(static_cast<std::size_t>(n_));
    std::iota(all.begin(), all.end(), index_t{0});
    return all;
  }
  const index_t epoch = step / steps_per_epoch_;
  if (epoch != epoch_) {
    order_ = rng_.split(static_cast<std::uint64_t>(epoch)).permutation(n_);
    epoch_ = epoch;
  }
  const auto first = order_.begin() + (step % steps_per_epoch_) * batch_size_;
  return std::vector<index_t>(first, first + batch_size_);
}

template <class T>
Tensor<T> TextBatch::targets() const {
  Tensor<T> out({size(), 1});
  std::transform(labels.begin(), labels.end(), out.mutable_data(),
                 [](double v) { return static_cast<T>(v); });
  return out;
}

Tensor<std::int64_t> TextBatch::classes() const {
  Tensor<std::int64_t> out({size()});
  std::transform(labels.begin(), labels.end(), out.mutable_data(), [](double v) {
    if (!(v >= 0 && v < 1e9) || v != std::floor(v)) {
      throw ValueError(fmt::format("batch: expected class numbers as labels; got {}", v));
    }
    return static_cast<std::int64_t>(v);
  });
  return out;
}

TextBatch make_batch(const EncodedExamples& examples, const std::vector<index_t>& rows,
                     std::int32_t pad_id, index_t pad_to) {
  if (rows.empty()) throw ValueError("batch: expected at least one row");
  TextBatch batch;
  batch.rows = rows;
  batch.pixels = pixels_of(examples, rows);
  index_t longest = pad_to;
  index_t shortest = std::numeric_limits<index_t>::max();
  for (const index_t row : rows) {
    const auto length = static_cast<index_t>(encoding(examples, row).ids.size());
    batch.lengths.push_back(length);
    batch.labels.push_back(examples.labels[static_cast<std::size_t>(row)]);
    longest = std::max(longest, length);
    shortest = std::min(shortest, length);
  }
  const Shape shape = {batch.size(), longest};
  batch.ids = Tensor<std::int64_t>::full(shape, pad_id);
  batch.type_ids = Tensor<std::int64_t>::zeros(shape);
  std::int64_t* ids = batch.ids.mutable_data();
  std::int64_t* types = batch.type_ids.mutable_data();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Encoding& e = encoding(examples, rows[i]);
    std::copy(e.ids.begin(), e.ids.end(), ids + static_cast<index_t>(i) * longest);
    std::copy(e.type_ids.begin(), e.type_ids.end(), types + static_cast<index_t>(i) * longest);
  }
  if (shortest < longest) {
    batch.mask = Tensor<std::uint8_t>::zeros(shape);
    std::uint8_t* mask = batch.mask.mutable_data();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::fill_n(mask + static_cast<index_t>(i) * longest, batch.lengths[i], std::uint8_t{1});
    }
  }
  return batch;
}

std::vector<std::vector<index_t>> batches_by_length(const EncodedExamples& examples,
                                                    index_t batch_size) {
  if (batch_size < 1) {
    throw ValueError(fmt::format("batches: expected a batch size >= 1; got {}", batch_size));
  }
  std::vector<index_t> order(examples.encodings.size());
  std::iota(order.begin(), order.end(), index_t{0});
  std::stable_sort(order.begin(), order.end(), [&examples](index_t a, index_t b) {
    return examples.length(a) > examples.length(b);
  });
  std::vector<std::vector<index_t>> batches;
  for (std::size_t first = 0; first < order.size();) {
    const std::size_t stop = std::min(order.size(), first + static_cast<std::size_t>(batch_size));
    batches.emplace_back(order.begin() + static_cast<std::ptrdiff_t>(first),
                         order.begin() + static_cast<std::ptrdiff_t>(stop));
    first = stop;
  }
  return batches;
}

template <class T>
Tensor<T> evaluate_by_length(const EncodedExamples& examples, index_t batch_size,
                             std::int32_t pad_id,
                             const std::function<Tensor<T>(const TextBatch&)>& model) {
  Tensor<T> out;
  for (const std::vector<index_t>& rows : batches_by_length(examples, batch_size)) {
    const TextBatch batch = make_batch(examples, rows, pad_id);
    const Tensor<T> part = model(batch);
    const bool fits = part.rank() == 2 && part.dim(0) == batch.size() &&
                      (!out.defined() || part.dim(1) == out.dim(1));
    if (!fits) {
      throw ShapeError(
          fmt::format("evaluate: expected one row of outputs for each of {} examples; "
                      "got {}",
                      batch.size(), part.shape().str()));
    }
    const index_t k = part.dim(1);
    if (!out.defined()) out = Tensor<T>({examples.size(), k});
    T* values = out.mutable_data();
    for (index_t i = 0; i < batch.size(); ++i) {
      std::copy_n(part.data() + i * k, k, values + rows[static_cast<std::size_t>(i)] * k);
    }
  }
  return out.defined() ? out : Tensor<T>({0, 0});
}

template Tensor<float> TextBatch::targets() const;
template Tensor<double> TextBatch::targets() const;
template Tensor<float> evaluate_by_length(const EncodedExamples&, index_t, std::int32_t,
                                          const std::function<Tensor<float>(const TextBatch&)>&);
template Tensor<double> evaluate_by_length(const EncodedExamples&, index_t, std::int32_t,
                                           const std::function<Tensor<double>(const TextBatch&)>&);

}  // namespace parsimony
