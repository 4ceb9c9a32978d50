// Tasks on one or two sentences: what is asked, how it is scored, and the examples. The data sets
// of GLUE and SICK that the paper uses, a user's own tables, and a generated task that needs no
// data.
//
// Files are looked up as text_task_files() lists them, below --data, $PARSIMONY_DATA or ./data.
// docs/text_data.md describes them, and how each set is split here where the published split could
// not be had.
#pragma once

#include <parsimony/rng.hpp>
#include <parsimony/text_table.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace parsimony {

/// One example. The label is the number to predict, or the number of the class.
struct TextExample {
  std::string first, second;  // second is "" unless the task is on pairs
  double label = 0;
};

struct TextTask {
  std::string name;
  bool pair = false;
  /// Names of the classes, in the order of their numbers; empty for regression.
  std::vector<std::string> labels;
  /// The metric that results are compared by (see metric()), and those given beside it.
  std::string metric;
  std::vector<std::string> other_metrics;
  /// Range of the labels of a regression.
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();

  bool regression() const { return labels.empty(); }
  /// Width of the model's head: the number of classes, 1 for regression.
  index_t outputs() const { return regression() ? 1 : static_cast<index_t>(labels.size()); }
};

/// Labels or predictions of `task` as its metrics take them: (n, outputs) logits become the largest
/// class, or the value itself. @throws ShapeError on another width, NumericalError on NaN.
template <class T>
std::vector<double> predictions(const TextTask& task, const Tensor<T>& logits);

/// The place among `classes` of each of `labels`, by name ("NOT-ENTAILMENT" for "not_entailment").
/// Empty unless they name the same classes.
std::vector<index_t> places_of_labels(const std::vector<std::string>& labels,
                                      const std::vector<std::string>& classes);

/// A task with its examples. `test` is empty where there is none with labels.
struct TextSplits {
  TextTask task;
  std::vector<TextExample> train, dev, test;
};

/// Sizes and seed of the generated task.
struct SyntheticOptions {
  index_t train = 4000;
  index_t dev = 1000;
  std::uint64_t seed = 0;
};

struct TextTaskOptions {
  std::string data_dir;  // --data; "" = $PARSIMONY_DATA, then ./data
  SyntheticOptions synthetic;
  /// "train", "dev" or "test": the files that only others need may be missing, and those are empty.
  std::string split;
};

/// "stsb", "sst2", "cola", "rte", "mrpc", "qnli", "sick", "sick-r", "synthetic".
const std::vector<std::string>& text_task_names();
/// The files that a task reads, relative to the data folder; none for "synthetic".
/// @throws ValueError on an unknown name, with the nearest.
std::vector<std::string> text_task_files(const std::string& name);

/// Loads a task by name. @throws ValueError on an unknown name, with the nearest; MissingData
/// naming the file that is missing and where it was looked for; InputError on a file that is not as
/// described.
TextSplits load_text_task(const std::string& name, const TextTaskOptions& options = {});

/// Sentence pairs with a similarity from 0 to 5, like STS-B's, from a small grammar: "the old man
/// is fixing the car in the garden". A sentence has five slots (how, who, what they do, to what,
/// where); each has eight values of two near synonyms ("man", "guy"). The score is the number of
/// slots in which the sentences agree, whichever synonym they use; all six scores are equally
/// likely. The words are common English ones. No pair occurs twice, and none is both in train and
/// dev. The same seed gives the same pairs: asking for more only appends, in train and dev alike.
/// @throws ValueError on sizes outside 1..10^7 (dev: 0).
TextSplits synthetic_pairs(const SyntheticOptions& options = {});

/// How a user's tables become a task.
struct UserTaskOptions {
  /// The text, or both texts, and last the label: names or numbers. Empty: by the header's usual
  /// names, else the columns of a table that has two (text, label) or three (text, text, label).
  std::vector<std::string> columns;
  TextFormat::Kind kind = TextFormat::Kind::detect;
  TextFormat::Header header = TextFormat::Header::detect;
  bool extra_columns = false;
  /// detect: regression if all labels of train are numbers and one is no integer or more than 20
  /// differ; else classes.
  enum class Goal { detect, classes, regression };
  Goal goal = Goal::detect;
  /// Names of the classes in their order; empty: those of train, numbers ascending, then by name.
  std::vector<std::string> labels;
  /// See TextTask; "" = pearson or accuracy.
  std::string metric;
  /// Labels of a regression outside are refused.
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

/// A task from a user's files; `dev` may be "". @throws what read_text_table throws; InputError
/// with file and line on a label that is no number, not finite or outside the range, or of a class
/// that is not known (with the nearest), or if train has a single class; ValueError on options that
/// contradict themselves.
TextSplits make_user_task(const std::string& train, const std::string& dev,
                          const UserTaskOptions& options = {});

/// Labelled examples of a task that exists, from another file: what is evaluated.
/// @throws as make_user_task.
std::vector<TextExample> read_examples(const TextTask& task, const std::string& path,
                                       const UserTaskOptions& options = {});

}  // namespace parsimony
