// Labels of tasks, see the header.
#include "data/text_labels.hpp"

#include <parsimony/error.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "io/plain_word.hpp"

namespace parsimony {

namespace detail {

namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

}  // namespace

double label_of(const TextTask& task, const std::vector<std::string>& codes, const TextTable& table,
                std::size_t row, const std::string& field) {
  const std::string text(trimmed(field));
  const auto refuse = [&](const std::string& what) {
    throw InputError(fmt::format("{}: {}", table.where(row), what));
  };
  if (text.empty()) refuse("the label is empty");
  if (task.regression()) {
    double value = 0;
    if (!parse_number(text, value)) {
      refuse(fmt::format("expected a number as label; found '{}'{}", printable(text),
                         text.find(',') != std::string::npos ? " (decimals need a point)" : ""));
    }
    if (std::isfinite(value) && std::abs(value) > std::numeric_limits<float>::max()) {
      refuse(fmt::format("expected a label that single precision holds; found {}", value));
    }
    if (!std::isfinite(value)) {
      refuse(fmt::format("expected a finite number as label; found '{}'", printable(text)));
    }
    if (value < task.low || value > task.high) {
      refuse(fmt::format("expected a label from {} to {}; found {}", task.low, task.high, value));
    }
    return value;
  }
  auto found = std::find(codes.begin(), codes.end(), text);
  // A class without a name of its own, as models call it, is meant by its number too.
  if (found == codes.end()) found = std::find(codes.begin(), codes.end(), "LABEL_" + text);
  if (found == codes.end()) {
    const std::string near = nearest_name(text, codes);
    std::vector<std::string> shown;
    for (const std::string& code : codes) shown.push_back(printable(code));
    if (shown.size() > 20) shown.resize(20);
    refuse(fmt::format("unknown label '{}'{}; the labels are {}", printable(text),
                       near.empty() ? "" : fmt::format(", did you mean '{}'?", printable(near)),
                       fmt::join(shown, ", ")));
  }
  return static_cast<double>(found - codes.begin());
}

std::vector<TextExample> examples_of(const TextTask& task, const std::vector<std::string>& codes,
                                     const TextTable& table) {
  std::vector<TextExample> out;
  out.reserve(table.rows.size());
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const std::vector<std::string>& row = table.rows[i];
    out.push_back({row[0], task.pair ? row[1] : "", label_of(task, codes, table, i, row.back())});
  }
  return out;
}

}  // namespace detail

std::vector<index_t> places_of_labels(const std::vector<std::string>& labels,
                                      const std::vector<std::string>& classes) {
  if (labels.size() != classes.size()) return {};
  std::vector<std::string> names;
  for (const std::string& name : classes) names.push_back(plain_word(name));
  std::vector<index_t> places;
  for (const std::string& label : labels) {
    // As it is written first: names that differ in their signs alone ("+", "-") are no words.
    auto at = std::find(classes.begin(), classes.end(), label) - classes.begin();
    if (at == static_cast<std::ptrdiff_t>(classes.size())) {
      const std::string word = plain_word(label);
      at = word.empty() ? at : std::find(names.begin(), names.end(), word) - names.begin();
    }
    const auto place = static_cast<index_t>(at);
    const bool known = at < static_cast<std::ptrdiff_t>(classes.size());
    if (!known || std::find(places.begin(), places.end(), place) != places.end()) return {};
    places.push_back(place);
  }
  return places;
}

template <class T>
std::vector<double> predictions(const TextTask& task, const Tensor<T>& logits) {
  if (logits.rank() != 2 || logits.dim(1) != task.outputs()) {
    throw ShapeError(fmt::format("predictions: task '{}' has {} outputs; got {}", task.name,
                                 task.outputs(), logits.shape().str()));
  }
  if (!task.regression()) {
    const std::vector<index_t> classes = argmax_rows(logits);
    return std::vector<double>(classes.begin(), classes.end());
  }
  for (const T v : logits) {
    if (std::isnan(v)) throw NumericalError("predictions: NaN");
  }
  return std::vector<double>(logits.begin(), logits.end());
}

template std::vector<double> predictions(const TextTask&, const Tensor<float>&);
template std::vector<double> predictions(const TextTask&, const Tensor<double>&);

}  // namespace parsimony
