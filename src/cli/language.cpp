#include "cli/language.hpp"

#include <parsimony/error.hpp>
#include <parsimony/files.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace parsimony::cli {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size() && !text.empty();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    parts.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

UserTaskOptions::Goal goal_of(const std::string& name) {
  if (name == "detect") return UserTaskOptions::Goal::detect;
  if (name == "classes") return UserTaskOptions::Goal::classes;
  if (name == "regression") return UserTaskOptions::Goal::regression;
  throw ValueError("--goal: expected detect, classes or regression; got '" + name + "'");
}

std::string task_path(const std::string& folder) {
  return (fs::path(folder) / "task.json").string();
}

}  // namespace

std::vector<Option> task_options(TaskSettings& s, bool with_train) {
  std::vector<Option> options = {
      {"--task", "NAME",
       fmt::format("{}; of images: {}", fmt::join(text_task_names(), ", "),
                   fmt::join(image_task_names(), ", ")),
       &s.task}};
  if (with_train)
    options.push_back({"--train", "FILE", "your own table (TSV, CSV, JSONL)", &s.train});
  options.push_back({"--dev", "FILE", "your own labelled table to evaluate on", &s.dev});
  options.push_back(
      {"--columns", "A,B,C", "text, second text (if any) and label: names or numbers", &s.columns});
  options.push_back({"--goal", "G", "classes or regression (detect: by the labels)", &s.goal});
  options.push_back(
      {"--max-length", "N", "examples with more tokens are left out (128)", &s.max_length});
  options.push_back(data_option(&s.data));
  return options;
}

bool is_image_task(const TaskSettings& s) {
  const auto& names = image_task_names();
  return std::find(names.begin(), names.end(), s.task) != names.end();
}

EncodedTask load_encoded(const TaskSettings& s, const BaseModel& base) {
  if (!is_image_task(s)) return encode_task(base, load_splits(s), s.max_length);
  check_data_folder(s.data);
  return image_task(base, load_image_task(s.task, s.data));
}

TextSplits load_splits(const TaskSettings& s) {
  check_data_folder(s.data);
  if (s.task.empty() == s.train.empty()) {
    throw ValueError("expected --task NAME or --train FILE, one of the two");
  }
  if (!s.task.empty()) {
    TextTaskOptions options;
    options.data_dir = s.data;
    return load_text_task(s.task, options);
  }
  UserTaskOptions options;
  options.columns = split(s.columns);
  options.goal = goal_of(s.goal);
  return make_user_task(s.train, s.dev, options);
}

void save_task(const TextTask& task, const std::string& folder) {
  const Json json = {{"task", task.name},
                     {"pair", task.pair},
                     {"labels", task.labels},
                     {"metric", task.metric},
                     {"other_metrics", task.other_metrics}};
  make_folders(folder);
  write_file_atomically(task_path(folder), json.dump(2) + "\n");
}

TextTask read_task(const std::string& folder) {
  const std::string path = task_path(folder);
  try {
    const Json json = Json::parse(read_file(path));
    TextTask task;
    task.name = json.at("task").get<std::string>();
    task.pair = json.at("pair").get<bool>();
    task.labels = json.at("labels").get<std::vector<std::string>>();
    task.metric = json.at("metric").get<std::string>();
    task.other_metrics = json.at("other_metrics").get<std::vector<std::string>>();
    return task;
  } catch (const Json::exception& e) {
    throw InputError(fmt::format("'{}': expected what finetune writes; {}", path, e.what()));
  }
}

Answering::Answering(const std::string& model_folder, const std::string& adapter_folder)
    : base(model_folder) {
  if (!adapter_folder.empty()) {
    task = read_task(adapter_folder);
  } else if (!base.folder().empty() && fs::exists(task_path(base.folder()))) {
    task = read_task(base.folder());
  } else {
    task.labels = base.config().labels;
    if (task.labels.empty() && base.config().num_labels > 1) {
      for (index_t i = 0; i < base.config().num_labels; ++i) {
        task.labels.push_back("LABEL_" + std::to_string(i));
      }
    }
    if (base.config().num_labels == 1) task.labels.clear();
    task.metric = task.regression() ? "pearson" : "accuracy";
  }
  LoadReport report;
  model = base.classifier(task, 0, &report);
  if (!adapter_folder.empty()) {
    load_adapters<float>(*model, adapter_folder);
  } else if (std::any_of(report.fresh.begin(), report.fresh.end(), [](const std::string& name) {
               return name == "classifier.weight" || name == "score.weight";
             })) {
    std::fprintf(stderr, "the model has no classification head; a fresh one answers at random\n");
  }
}

}  // namespace parsimony::cli
