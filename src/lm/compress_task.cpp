// Compression of a classifier on its task, see the header.
#include "lm/compress_task.hpp"

#include <parsimony/adapter.hpp>
#include <parsimony/batching.hpp>
#include <parsimony/error.hpp>

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "lm/compress_text.hpp"

namespace parsimony {

namespace {

using T = float;

const Model<T>& as_model(const Module<T>& model) { return dynamic_cast<const Model<T>&>(model); }

bool of_classifier(const std::string& parameter) {
  return parameter.compare(0, 11, "classifier.") == 0 || parameter.compare(0, 6, "score.") == 0;
}

}  // namespace

void require_trained(const BaseModel& base) {
  if (base.folder().empty()) {
    throw InputError("compress: expected a trained model; scratch:SIZE has fresh weights");
  }
}

TaskCompression::TaskCompression(const CompressionSource& source)
    : base_(source.model), adapter_(source.adapter) {
  require_trained(base_);
}

void TaskCompression::use(EncodedTask encoded, const CompressionSource& source) {
  use_classes_of(source.labels, encoded);
  task_ = encoded.task;
  pad_id_ = encoded.pad_id;
  if (encoded.train.size() < 3 || encoded.dev.size() < 1) {
    throw InputError(
        fmt::format("compress: expected at least 3 training and 1 dev example; got {} and {}",
                    encoded.train.size(), encoded.dev.size()));
  }
  // The shortest first: a batch is as long as its longest.
  std::vector<index_t> by_length(encoded.dev.encodings.size());
  std::iota(by_length.begin(), by_length.end(), index_t{0});
  const auto length = [&](index_t i) {
    return encoded.dev.encodings[static_cast<std::size_t>(i)].ids.size();
  };
  std::stable_sort(by_length.begin(), by_length.end(),
                   [&](index_t a, index_t b) { return length(a) < length(b); });
  test_ = select_rows(encoded.dev, by_length);
  const index_t n = encoded.train.size();
  const index_t held = std::max<index_t>(1, std::min(source.windows, n / 4));
  const std::vector<index_t> order = Rng(0).split("parts").permutation(n);
  const auto at = order.begin() + held;
  allocation_ = select_rows(encoded.train, {order.begin(), at});
  const auto most = static_cast<std::ptrdiff_t>(std::min(source.sequences, n - held));
  calibration_ = select_rows(encoded.train, {at, at + most});
  load();  // a model without a head is refused now
}

std::unique_ptr<Module<T>> TaskCompression::load() const {
  LoadReport report;
  auto model = base_.classifier(task_, 0, &report);
  bool fresh = std::any_of(report.fresh.begin(), report.fresh.end(),
                           [](const std::string& name) { return of_classifier(name); });
  if (!adapter_.empty()) {
    load_adapters<T>(*model, adapter_);
    merge_adapters<T>(*model);
    fresh = false;
  }
  if (fresh) {
    throw InputError(fmt::format(
        "'{}': expected a model with a classifier of {} outputs, trained for the task; 'parsimony "
        "finetune --method full' makes one, --adapter DIR takes what finetune made",
        base_.name(), task_.outputs()));
  }
  return model;
}

CompressionBatch TaskCompression::batch(Part part, const std::vector<index_t>& sequences,
                                        const Rng&) const {
  const TextBatch b = make_batch(examples(part), sequences, pad_id_);
  CompressionBatch out;
  if (task_.regression()) {
    out.values = b.targets<T>();
  } else {
    out.classes = b.classes();
  }
  if (b.mask.defined()) {
    std::vector<std::int64_t> tokens;
    for (index_t i = 0; i < b.mask.size(); ++i) {
      if (b.mask.data()[i] != 0) tokens.push_back(i);
    }
    out.places = b.ids.size();
    out.tokens = Tensor<std::int64_t>({static_cast<index_t>(tokens.size())}, tokens);
  }
  const TokenBatch inputs{b.ids, b.type_ids, b.mask, b.pixels};
  out.outputs = [inputs](const Module<T>& model, Pass& pass) {
    return as_model(model).logits(inputs, pass);
  };
  return out;
}

void TaskCompression::save(Module<T>& model, const std::string& folder) const {
  write(model, folder);
  if (!adapter_.empty()) copy_files({"task.json"}, adapter_, folder);
}

bool TaskCompression::trains(const std::string& parameter) const {
  return of_classifier(parameter);
}

std::vector<std::pair<std::string, double>> TaskCompression::scores(
    const Tensor<float>& outputs) const {
  return task_metrics(task_, outputs, test_.labels);
}

const EncodedExamples& TaskCompression::examples(Part part) const {
  return part == Part::calibration ? calibration_ : part == Part::allocation ? allocation_ : test_;
}

}  // namespace parsimony
