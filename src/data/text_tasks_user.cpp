// A user's tables as a task: which columns are meant, whether labels are numbers or classes, and
// which classes there are.
#include <parsimony/error.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/strings.hpp>
#include <parsimony/text_tasks.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "data/text_labels.hpp"

namespace parsimony {

namespace {

using Goal = UserTaskOptions::Goal;

constexpr std::size_t most_classes = 1000;
constexpr std::size_t most_integer_classes = 20;

/// The text or both texts, and the label, of a table that was read whole.
std::vector<std::size_t> usual_columns(const TextTable& table) {
  const auto unclear = [&] {
    throw InputError(fmt::format(
        "{}: it is not clear which columns are the text (or both texts) and the label; name them "
        "with --columns; there are: {}",
        table.file, fmt::join(table.columns, ", ")));
  };
  const std::size_t count = table.columns.size();
  if (!table.has_names) {
    if (count != 2 && count != 3) unclear();
    return count == 2 ? std::vector<std::size_t>{0, 1} : std::vector<std::size_t>{0, 1, 2};
  }
  std::vector<std::size_t> texts;
  std::vector<std::size_t> others;
  std::vector<std::size_t> labels;
  for (std::size_t i = 0; i < count; ++i) {
    switch (usual_text_column(table.columns[i])) {
      case TextColumn::text:
        texts.push_back(i);
        break;
      case TextColumn::label:
        labels.push_back(i);
        break;
      case TextColumn::unknown:
        others.push_back(i);
        break;
      case TextColumn::id:
        break;
    }
  }
  if (texts.empty()) texts = others;
  if (labels.size() != 1 || texts.empty() || texts.size() > 2) unclear();
  // By what the names say, not by where they stand: keys of JSON have no order.
  const auto later = [&table](std::size_t column) {
    const int order = usual_text_order(table.columns[column]);
    return order == 0 ? 1.5 : static_cast<double>(order);
  };
  if (texts.size() == 2 && later(texts[0]) > later(texts[1])) std::swap(texts[0], texts[1]);
  texts.push_back(labels[0]);
  return texts;
}

/// A table of the text or both texts, and the label.
TextTable read_labelled(const std::string& path, const UserTaskOptions& options) {
  const std::size_t given = options.columns.size();
  if (given != 0 && given != 2 && given != 3) {
    throw ValueError(fmt::format(
        "task: expected two columns (text, label) or three (text, text, label); got {}", given));
  }
  TextFormat format;
  format.kind = options.kind;
  format.header = options.header;
  format.columns = options.columns;
  format.extra_columns = options.extra_columns;
  TextTable table = read_text_table(path, format);
  if (given != 0) return table;
  const std::vector<std::size_t> chosen = usual_columns(table);
  const auto keep = [&chosen](std::vector<std::string>& row) {
    std::vector<std::string> kept;
    kept.reserve(chosen.size());
    for (const std::size_t c : chosen) kept.push_back(std::move(row[c]));
    row = std::move(kept);
  };
  keep(table.columns);
  for (auto& row : table.rows) keep(row);
  return table;
}

bool looks_like_regression(const TextTable& table) {
  std::size_t numbers = 0;
  bool fraction = false;
  std::set<double> different;
  for (const auto& row : table.rows) {
    double value = 0;
    if (!parse_number(row.back(), value)) continue;
    ++numbers;
    fraction = fraction || !std::isfinite(value) || value != std::floor(value);
    if (std::isfinite(value) && different.size() <= most_integer_classes) different.insert(value);
  }
  // A few labels that are no numbers are mistakes, to be reported with their lines.
  const bool mostly = numbers > 0 && 10 * numbers >= 9 * table.rows.size();
  return mostly && (fraction || different.size() > most_integer_classes);
}

/// The classes of a table: numbers ascending, then words in the order of their bytes.
std::vector<std::string> classes_of(const TextTable& table) {
  std::set<std::string> words;
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const std::string& field = table.rows[i].back();
    const auto first = field.find_first_not_of(' ');
    if (first == std::string::npos) {
      throw InputError(fmt::format("{}: the label is empty", table.where(i)));
    }
    words.insert(field.substr(first, field.find_last_not_of(' ') + 1 - first));
    if (words.size() > most_classes) {
      throw InputError(
          fmt::format("{}: column '{}' has more than {} different labels; is it the "
                      "label? name the columns with --columns",
                      table.file, printable(table.columns.back()), most_classes));
    }
  }
  if (words.size() < 2) {
    throw InputError(fmt::format("{}: every label is '{}'; there is nothing to learn", table.file,
                                 printable(*words.begin())));
  }
  std::vector<std::string> out(words.begin(), words.end());
  const auto key = [](const std::string& word) {
    double value = 0;
    const bool number = parse_number(word, value) && !std::isnan(value);
    return std::make_pair(number ? 0 : 1, number ? value : 0.0);
  };
  std::stable_sort(out.begin(), out.end(),
                   [&key](const std::string& a, const std::string& b) { return key(a) < key(b); });
  return out;
}

void choose_metrics(const std::string& wanted, TextTask& task) {
  std::vector<std::string> fitting = {"pearson", "spearman"};
  if (!task.regression()) {
    fitting = {"accuracy", "matthews"};
    if (task.outputs() == 2) fitting.emplace_back("f1");
  }
  task.metric = wanted.empty() ? fitting[0] : wanted;
  const auto found = std::find(fitting.begin(), fitting.end(), task.metric);
  if (found == fitting.end()) {
    throw ValueError(fmt::format(
        "task: metric '{}' does not fit {}; there are {}", printable(wanted),
        task.regression() ? std::string("a regression") : fmt::format("{} classes", task.outputs()),
        fmt::join(fitting, ", ")));
  }
  fitting.erase(found);
  task.other_metrics = fitting;
}

}  // namespace

TextSplits make_user_task(const std::string& train, const std::string& dev,
                          const UserTaskOptions& options) {
  if (!options.labels.empty()) {
    const std::set<std::string> different(options.labels.begin(), options.labels.end());
    if (options.goal == Goal::regression) {
      throw ValueError("task: a regression has no class names");
    }
    if (options.labels.size() < 2 || different.size() < options.labels.size()) {
      throw ValueError("task: expected at least two classes, all different");
    }
  }
  if (!(options.low < options.high)) {
    throw ValueError(fmt::format("task: expected a range LOW < HIGH of labels; got {} and {}",
                                 options.low, options.high));
  }
  const TextTable table = read_labelled(train, options);
  TextSplits splits;
  TextTask& task = splits.task;
  task.name = std::filesystem::path(train).stem().string();
  task.pair = table.columns.size() == 3;
  task.low = options.low;
  task.high = options.high;
  const bool regression =
      options.goal == Goal::regression ||
      (options.goal == Goal::detect && options.labels.empty() && looks_like_regression(table));
  if (!regression) task.labels = options.labels.empty() ? classes_of(table) : options.labels;
  choose_metrics(options.metric, task);
  splits.train = detail::examples_of(task, task.labels, table);
  if (!dev.empty()) {
    // The columns that were found by their usual names in train have the same names in dev.
    UserTaskOptions same = options;
    if (same.columns.empty() && table.has_names) same.columns = table.columns;
    splits.dev = read_examples(task, dev, same);
  }
  return splits;
}

std::vector<TextExample> read_examples(const TextTask& task, const std::string& path,
                                       const UserTaskOptions& options) {
  const TextTable table = read_labelled(path, options);
  if ((table.columns.size() == 3) != task.pair) {
    throw InputError(fmt::format("{}: task '{}' takes {}; the table has {}", path, task.name,
                                 task.pair ? "two texts and a label" : "one text and a label",
                                 task.pair ? "one text" : "two"));
  }
  return detail::examples_of(task, task.labels, table);
}

}  // namespace parsimony
