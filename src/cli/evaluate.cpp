// parsimony evaluate and predict: what a fine-tuned model is worth, and what it says.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "cli/language.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::cli {

namespace {

using Json = nlohmann::ordered_json;

struct EvaluateSettings {
  std::string model, adapter, split = "dev";
  TaskSettings task;
  index_t batch = 32;
  int threads = threads_unset;
  bool json = false, quiet = false;
};

/// A task that is named, before the model is at hand.
struct Wanted {
  std::optional<TextSplits> texts;
  std::optional<ImageSplits> images;
  Wanted(const TaskSettings& s, const std::string& split) {
    if (is_image_task(s)) {
      images = load_images(s);
    } else if (!s.task.empty() || s.dev.empty()) {
      texts = load_splits(s, split);
    }
  }
  const TextTask* task() const { return texts ? &texts->task : images ? &images->task : nullptr; }
};

void check_outputs(const TextTask& has, const TextTask& wanted) {
  if (wanted.outputs() == has.outputs()) return;
  throw InputError(fmt::format(
      "evaluate: the model has {} outputs, task {} needs {}{}; train a head for it with parsimony "
      "finetune --task {}",
      has.outputs(), wanted.name, wanted.outputs(),
      has.name.empty() || has.name == wanted.name ? "" : ": it was trained on " + has.name,
      wanted.name));
}

/// A user's table as examples of the model's task. A model that does not say what it was trained on
/// has only its outputs: then the table decides between one text and two, and on the metrics.
std::vector<TextExample> table_examples(const EvaluateSettings& s, TextTask& task) {
  if (s.split != "dev") {
    throw ValueError(fmt::format(
        "--split: expected none beside --dev, which names the file; got '{}'", s.split));
  }
  UserTaskOptions options = table_options(s.task);
  const auto goal =
      task.regression() ? UserTaskOptions::Goal::regression : UserTaskOptions::Goal::classes;
  if (options.goal != UserTaskOptions::Goal::detect && options.goal != goal) {
    throw ValueError(fmt::format("--goal: the model's outputs are {}; got {}",
                                 task.regression() ? "a regression" : "classes", s.task.goal));
  }
  if (!task.name.empty()) return read_examples(task, s.task.dev, options);
  options.goal = goal;
  options.labels = task.labels;
  TextSplits splits = make_user_task(s.task.dev, "", options);
  task = splits.task;
  return std::move(splits.train);
}

/// The examples to evaluate on, and the task they belong to.
std::vector<TextExample> examples_of(const EvaluateSettings& s, const Wanted& wanted,
                                     TextTask& task) {
  if (!wanted.texts) return table_examples(s, task);
  const TextSplits& splits = *wanted.texts;
  check_outputs(task, splits.task);
  task = splits.task;
  if (s.split == "dev") return splits.dev;
  if (s.split == "train") return splits.train;
  if (s.split == "test" && !splits.test.empty()) return splits.test;
  throw ValueError(fmt::format("--split: expected dev or train, task {} has no more; got '{}'",
                               task.name, s.split));
}

/// The same as the model reads them.
EncodedExamples encoded_examples(const EvaluateSettings& s, const Wanted& wanted,
                                 const Answering& answering, TextTask& task) {
  if (!wanted.images) {
    const std::vector<TextExample> examples = examples_of(s, wanted, task);
    check_pairs(answering.base, task.pair);
    return encode_examples(answering.base.tokenizer(), task.pair, examples,
                           length_limit(answering.base, s.task.max_length));
  }
  const EncodedTask images = image_task(answering.base, *wanted.images);
  if (s.split != "dev" && s.split != "train") {
    throw ValueError(fmt::format("--split: expected dev or train; got '{}'", s.split));
  }
  check_outputs(task, images.task);
  task = images.task;
  return s.split == "dev" ? images.dev : images.train;
}

/// The column of the model's outputs for each class of the task: where both name the same classes,
/// by name, in any order; else by number, which is said.
std::vector<index_t> columns_of(const TextTask& model, const TextTask& task, bool quiet) {
  std::vector<index_t> columns = places_of_labels(task.labels, model.labels);
  if (!columns.empty()) return columns;
  if (!quiet) say_other_classes(model.labels, task.labels);
  columns.resize(task.labels.size());
  std::iota(columns.begin(), columns.end(), 0);
  return columns;
}

/// Columns of the outputs in another order.
Tensor<float> in_order(const Tensor<float>& outputs, const std::vector<index_t>& columns) {
  Tensor<float> out(outputs.shape());
  const auto width = static_cast<index_t>(columns.size());
  for (index_t i = 0; i < outputs.dim(0); ++i) {
    for (index_t j = 0; j < width; ++j) {
      out.mutable_data()[i * width + j] =
          outputs.data()[i * width + columns[static_cast<std::size_t>(j)]];
    }
  }
  return out;
}

int evaluate(EvaluateSettings& s) {
  apply_threads(s.threads);
  if (s.split != "dev" && s.split != "train" && s.split != "test") {
    throw ValueError(fmt::format("--split: expected dev, train or test; got '{}'", s.split));
  }
  const Wanted wanted(s.task, s.split);
  const Answering answering(s.model, s.adapter, wanted.task());
  TextTask task = answering.task;
  const EncodedExamples encoded = encoded_examples(s, wanted, answering, task);
  if (!s.quiet) warn_of_fresh(answering);
  const std::int32_t pad = encoded.pixels.defined() ? 0 : answering.base.tokenizer().pad_id();
  Tensor<float> outputs = model_outputs(*answering.model, encoded, pad, s.batch);
  if (!task.regression()) {
    outputs = in_order(outputs, columns_of(answering.task, task, s.quiet));
  }
  const auto metrics = task_metrics(task, outputs, encoded.labels);
  if (s.json) {
    Json json = {{"task", task.name},
                 {"split", s.task.dev.empty() ? s.split : s.task.dev},
                 {"model", answering.base.name()},
                 {"adapter", answering.adapter ? answering.adapter->folder : ""},
                 {"examples", encoded.size()},
                 {"too_long", encoded.dropped}};
    for (const auto& [name, value] : metrics) json["metrics"][name] = value;
    fmt::print("{}\n", json.dump(2));
    return 0;
  }
  fmt::print("{} examples, {} left out for their length\n", encoded.size(), encoded.dropped);
  for (const auto& [name, value] : metrics) fmt::print("{:<10} {:.4f}\n", name, value);
  return 0;
}

struct PredictSettings {
  std::string model, adapter, input = "-", output = "-";
  index_t max_length = 0;
  index_t batch = 32;
  int threads = threads_unset;
  bool quiet = false;
};

/// The lines of a file, each with one text or two; quotes are characters.
struct Lines {
  std::vector<TextExample> examples;
  std::vector<bool> pair;
};

Lines read_lines(const std::string& path) {
  const std::string text = read_text(path);
  Lines lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string row = text.substr(at, end - at);
    at = end + 1;
    if (!row.empty() && row.back() == '\r') row.pop_back();
    const std::size_t line = lines.examples.size() + 1;
    const std::size_t tab = row.find('\t');
    const bool two = tab != std::string::npos;
    if (two && row.find('\t', tab + 1) != std::string::npos) {
      throw InputError(
          fmt::format("'{}': line {}: expected one text, or two with a tab between; got {} columns",
                      input_name(path), line, std::count(row.begin(), row.end(), '\t') + 1));
    }
    lines.examples.push_back({row.substr(0, tab), two ? row.substr(tab + 1) : "", 0});
    lines.pair.push_back(two);
  }
  return lines;
}

/// Every line by itself one text or two, as the tokenizer of the model takes them.
EncodedExamples encode_lines(const Tokenizer& tokenizer, const Lines& lines, index_t max_length) {
  EncodedExamples out;
  for (std::size_t i = 0; i < lines.examples.size(); ++i) {
    EncodedExamples one = encode_examples(tokenizer, lines.pair[i], {lines.examples[i]}, max_length,
                                          TooLong::truncate);
    out.encodings.push_back(std::move(one.encodings.front()));
    out.labels.push_back(0);
    out.source.push_back(static_cast<index_t>(i));
  }
  return out;
}

/// The images of a file, as the ViT takes them.
EncodedExamples read_pixels(const std::string& path, const BaseModel& base) {
  EncodedExamples out;
  out.pixels = read_images(path);
  const BaseConfig& c = base.config();
  const Shape one{c.num_channels, c.image_size, c.image_size};
  const Shape found{out.pixels.dim(1), out.pixels.dim(2), out.pixels.dim(3)};
  if (found != one) {
    throw InputError(fmt::format("'{}': expected images {} for '{}'; got {}", input_name(path),
                                 one.str(), base.name(), found.str()));
  }
  const auto count = static_cast<std::size_t>(out.pixels.dim(0));
  out.encodings.resize(count);
  out.labels.resize(count);
  out.source.resize(count);
  return out;
}

/// @throws ValueError if the answers would be written over the questions.
void check_other_file(const PredictSettings& s) {
  std::error_code error;
  if (s.output != "-" && std::filesystem::equivalent(s.input, s.output, error)) {
    throw ValueError(fmt::format("--output: '{}' is what is read; choose another file", s.output));
  }
}

/// Logits of every line, or of every image.
Tensor<float> answers(const PredictSettings& s, const Answering& answering) {
  const BaseModel& base = answering.base;
  if (base.config().type == "vit") {
    return model_outputs(*answering.model, read_pixels(s.input, base), 0, s.batch);
  }
  const Lines lines = read_lines(s.input);
  const index_t limit = length_limit(base, s.max_length);
  check_pairs(base, std::find(lines.pair.begin(), lines.pair.end(), true) != lines.pair.end());
  if (lines.examples.empty()) return Tensor<float>({0, answering.task.outputs()});
  return model_outputs(*answering.model, encode_lines(base.tokenizer(), lines, limit),
                       base.tokenizer().pad_id(), s.batch);
}

int predict(PredictSettings& s) {
  apply_threads(s.threads);
  if (s.batch < 1) throw ValueError(fmt::format("--batch: expected at least 1; got {}", s.batch));
  check_other_file(s);
  const Answering answering(s.model, s.adapter);
  if (!s.quiet) warn_of_fresh(answering);
  const Tensor<float> logits = answers(s, answering);
  std::string out;
  for (index_t i = 0; i < logits.dim(0); ++i) {
    for (index_t j = 0; j < logits.dim(1); ++j) {
      const float value = logits.at({i, j});
      if (!std::isfinite(value)) {
        throw NumericalError(fmt::format("predict: line {}: output {} is {}", i + 1, j, value));
      }
      out += fmt::format("{}{:.9g}", j == 0 ? "" : "\t", value);
    }
    out += '\n';
  }
  if (s.output == "-") {
    std::fwrite(out.data(), 1, out.size(), stdout);
  } else {
    write_file_atomically(s.output, out);
  }
  return 0;
}

}  // namespace

Command evaluate_command() {
  auto s = std::make_shared<EvaluateSettings>();
  Command c;
  c.name = "evaluate";
  c.summary = "Score a fine-tuned model or adapter on a task";
  c.details =
      "Without --model the base that the adapter names is loaded, without either the shipped one. "
      "An adapter folder may be native or PEFT's; a run folder stands for what it holds.";
  c.examples = {"parsimony evaluate --adapter runs/first/adapter --task synthetic",
                "parsimony evaluate --model runs/full/model --task stsb --split dev --json"};
  c.options = task_options(s->task, false);
  const std::vector<Option> more = {
      {"--model", "DIR", "model folder (the adapter's base; the shipped tiny-en)", &s->model},
      {"--adapter", "DIR", "adapter folder, native or PEFT's", &s->adapter},
      {"--split", "S", "dev (default), train or test", &s->split},
      {"--batch", "N", "examples at a time (32)", &s->batch},
      threads_option(&s->threads),
      json_option(&s->json),
      quiet_option(&s->quiet)};
  c.options.insert(c.options.end(), more.begin(), more.end());
  c.action = [s] { return evaluate(*s); };
  return c;
}

Command predict_command() {
  auto s = std::make_shared<PredictSettings>();
  Command c;
  c.name = "predict";
  c.summary = "The outputs of a fine-tuned model on texts or images";
  c.details =
      "Input: no header, one text a line or two with a tab between, quotes literal; an empty line "
      "is an empty text. Output: one line each, the logits with 9 significant digits, separated by "
      "tabs. Texts longer than the model's positions are cut. A ViT takes images in a file or from "
      "stdin: .npy (n, channels, rows, columns) as the model takes them, IDX of bytes, or "
      "optdigits' "
      "lines.";
  c.examples = {"parsimony predict --adapter runs/first/adapter --input pairs.tsv --output out.tsv",
                "printf 'a dog runs\\ta dog is running\\n' | parsimony predict --adapter "
                "runs/first/adapter",
                "parsimony predict --model runs/digits/model --input digits.npy"};
  c.options = {
      {"--model", "DIR", "model folder (the adapter's base; the shipped tiny-en)", &s->model},
      {"--adapter", "DIR", "adapter folder, native or PEFT's", &s->adapter},
      {"--input", "FILE", "texts, or images (-: stdin)", &s->input},
      {"--output", "FILE", "logits (-: stdout)", &s->output},
      {"--max-length", "N", "tokens kept of longer texts (the model's positions)", &s->max_length},
      {"--batch", "N", "texts at a time (32)", &s->batch},
      threads_option(&s->threads),
      quiet_option(&s->quiet)};
  c.action = [s] { return predict(*s); };
  return c;
}

}  // namespace parsimony::cli
