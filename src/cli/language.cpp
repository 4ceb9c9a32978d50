#include "cli/language.hpp"

#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <fmt/format.h>

#include "io/nlohmann.hpp"

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

TextFormat::Header header_of(const std::string& name) {
  if (name == "detect") return TextFormat::Header::detect;
  if (name == "yes") return TextFormat::Header::yes;
  if (name == "no") return TextFormat::Header::no;
  throw ValueError("--header: expected detect, yes or no; got '" + name + "'");
}

/// A named task has its own files.
void check_no_tables(const TaskSettings& s) {
  if (s.train.empty() && s.dev.empty() && s.columns.empty() && s.goal == "detect" &&
      s.header == "detect") {
    return;
  }
  throw ValueError(fmt::format(
      "--task {}: expected no --train, --dev, --columns, --goal or --header beside it; they are "
      "for your own tables of texts",
      s.task));
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
  options.push_back({"--header", "H",
                     "whether the tables' first row names the columns: yes or no (detect: by usual "
                     "names)",
                     &s.header});
  options.push_back(
      {"--max-length", "N",
       "examples with more tokens are left out (128, or the model's positions if they are fewer)",
       &s.max_length});
  options.push_back(data_option(&s.data));
  return options;
}

bool is_image_task(const TaskSettings& s) {
  const auto& names = image_task_names();
  return std::find(names.begin(), names.end(), s.task) != names.end();
}

EncodedTask load_encoded(const TaskSettings& s, const BaseModel& base) {
  if (!is_image_task(s)) return encode_task(base, load_splits(s), s.max_length);
  return image_task(base, load_images(s));
}

ImageSplits load_images(const TaskSettings& s) {
  check_data_folder(s.data);
  check_no_tables(s);
  return load_image_task(s.task, s.data);
}

void check_named(const TaskSettings& s) {
  if (s.task.empty() == s.train.empty()) {
    throw ValueError("expected --task NAME or --train FILE, one of the two");
  }
  if (!s.task.empty()) check_no_tables(s);
}

TextSplits load_splits(const TaskSettings& s, const std::string& only) {
  check_data_folder(s.data);
  check_named(s);
  if (!s.task.empty()) {
    const std::string near = nearest_name(s.task, image_task_names());
    const auto& texts = text_task_names();
    if (!near.empty() && std::find(texts.begin(), texts.end(), s.task) == texts.end()) {
      throw ValueError(fmt::format("--task: there is no '{}', did you mean '{}'?", s.task, near));
    }
    TextTaskOptions options;
    options.data_dir = s.data;
    options.split = only;
    return load_text_task(s.task, options);
  }
  return make_user_task(s.train, s.dev, table_options(s));
}

UserTaskOptions table_options(const TaskSettings& s) {
  UserTaskOptions options;
  options.columns = split(s.columns);
  options.goal = goal_of(s.goal);
  options.header = header_of(s.header);
  return options;
}

void save_task(const TextTask& task, const std::string& folder, const std::string& base) {
  Json json = {{"task", task.name},
               {"pair", task.pair},
               {"labels", task.labels},
               {"metric", task.metric},
               {"other_metrics", task.other_metrics}};
  if (!base.empty()) json["base"] = base;
  make_folders(folder);
  write_file_atomically(task_path(folder), json.dump(2) + "\n");
}

TextTask read_task(const std::string& folder, std::string* base) {
  const std::string path = task_path(folder);
  try {
    const std::string text = read_file(path);
    check_json_depth(path, text);
    const Json json = Json::parse(text);
    TextTask task;
    task.name = json.at("task").get<std::string>();
    task.pair = json.at("pair").get<bool>();
    task.labels = json.at("labels").get<std::vector<std::string>>();
    task.metric = json.at("metric").get<std::string>();
    task.other_metrics = json.at("other_metrics").get<std::vector<std::string>>();
    if (base != nullptr && json.contains("base")) *base = json["base"].get<std::string>();
    return task;
  } catch (const Json::exception& e) {
    throw InputError(
        fmt::format("'{}': expected what finetune writes; {}", path, printable(e.what(), 200)));
  }
}

bool has_task(const std::string& folder) { return fs::exists(task_path(folder)); }

std::string lasting_name(const BaseModel& base) {
  if (base.folder().empty()) return base.name();
  std::error_code error;
  if (base.name() == shipped_name && fs::equivalent(base.folder(), shipped_model(), error)) {
    return shipped_name;
  }
  return fs::absolute(base.folder()).lexically_normal().string();
}

AdapterSource::AdapterSource(const std::string& given) {
  check_folder(given, "an adapter folder or a run folder");
  const auto has_config = [](const fs::path& path) {
    return fs::exists(path / "adapter_config.json");
  };
  folder = given;
  if (!has_config(given) && has_config(fs::path(given) / "adapter")) {
    folder = (fs::path(given) / "adapter").string();
  }
  if (!has_config(folder)) {
    throw InputError(
        fmt::format("'{}': expected an adapter folder with adapter_config.json and "
                    "adapter_model.safetensors, or a run folder with adapter/",
                    given));
  }
  if (is_peft_folder(folder)) {
    peft = read_peft(folder);
    base = peft->config.base;
  }
  if (cli::has_task(folder)) task = read_task(folder, &base);
}

std::string base_for(const std::string& model, const AdapterSource& adapter) {
  const std::string& base = adapter.base;
  if (!model.empty()) return model;
  // In files the name is the shipped model's, whatever folder is called so here.
  if (base == shipped_name) return "";
  if (base.empty() || base.compare(0, 8, "scratch:") == 0 || fs::is_directory(base)) return base;
  // What export wrote beside the adapter, which was moved since.
  const fs::path beside = fs::path(adapter.folder) / fs::path(base).filename();
  if (fs::is_directory(beside)) return beside.string();
  throw InputError(fmt::format("'{}' was trained on '{}', which is not here; name it with --model",
                               adapter.folder, base));
}

namespace {

/// Tasks of models that do not say theirs: by the number of outputs and the config's names.
TextTask task_of(const BaseConfig& config, index_t outputs) {
  TextTask task;
  if (outputs > 1) {
    if (static_cast<index_t>(config.labels.size()) == outputs) task.labels = config.labels;
    for (index_t i = static_cast<index_t>(task.labels.size()); i < outputs; ++i) {
      task.labels.push_back("LABEL_" + std::to_string(i));
    }
  }
  task.metric = task.regression() ? "pearson" : "accuracy";
  return task;
}

TextTask task_for(const BaseModel& base, const std::optional<AdapterSource>& adapter) {
  if (adapter && adapter->task) return *adapter->task;
  if (adapter && adapter->peft && adapter->peft->outputs > 0) {
    return task_of(base.config(), adapter->peft->outputs);
  }
  if (!base.folder().empty() && has_task(base.folder())) return read_task(base.folder());
  return task_of(base.config(), base.config().num_labels);
}

bool is_classifier(const std::string& parameter) {
  return parameter == "classifier.weight" || parameter == "score.weight";
}

std::optional<AdapterSource> adapter_at(const std::string& folder) {
  if (folder.empty()) return {};
  return AdapterSource(folder);
}

}  // namespace

Answering::Answering(const std::string& model_name, const std::string& adapter_folder,
                     const TextTask* wanted)
    : adapter(adapter_at(adapter_folder)),
      base(adapter ? base_for(model_name, *adapter) : model_name),
      task(task_for(base, adapter)) {
  LoadReport report;
  model = base.classifier(task, 0, &report);
  const bool stored = adapter && (adapter->task || (adapter->peft && adapter->peft->outputs > 0));
  const bool fresh_head = std::any_of(report.fresh.begin(), report.fresh.end(), is_classifier);
  if (wanted != nullptr && fresh_head && !stored && task.outputs() != wanted->outputs()) {
    task = *wanted;
    report = {};
    model = base.classifier(task, 0, &report);
  }
  std::vector<std::string> own;
  for (const auto& [name, var] : model->named_parameters()) own.push_back(name);
  if (adapter && adapter->peft) {
    attach_peft<float>(*model, *adapter->peft);
    extras = stored_whole(own, model->type(), *adapter->peft);
  } else if (adapter) {
    native = load_adapters<float>(*model, adapter->folder);
    extras = native.extras;
  }
  for (const std::string& name : report.fresh) {
    if (std::find(extras.begin(), extras.end(), name) == extras.end()) fresh.push_back(name);
  }
}

std::string parts_of(const std::vector<std::string>& parameters) {
  std::vector<std::string> parts;
  for (const std::string& name : parameters) {
    std::string part = "encoder";
    if (name.compare(0, 12, "bert.pooler.") == 0) part = "pooler";
    if (name.compare(0, 11, "classifier.") == 0 || name.compare(0, 6, "score.") == 0) {
      part = "classifier";
    }
    if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(part);
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

void warn_of_fresh(const Answering& answering) {
  if (answering.fresh.empty()) return;
  std::fprintf(stderr, "fresh, because it is not in the model: %s; the answers are at random\n",
               parts_of(answering.fresh).c_str());
}

void say_other_classes(const std::vector<std::string>& model,
                       const std::vector<std::string>& task) {
  const auto shown = [](const std::vector<std::string>& names) {
    std::vector<std::string> safe;
    for (const std::string& name : names) safe.push_back(printable(name));
    return fmt::format("{}", fmt::join(safe, ", "));
  };
  fmt::print(stderr, "the model's classes {} are taken for {}, in this order\n", shown(model),
             shown(task));
}

void say_of_head(const BaseModel& base, const TextTask& task, const LoadReport& report) {
  const std::vector<std::string>& own = base.config().labels;
  const bool fresh = std::any_of(report.fresh.begin(), report.fresh.end(), is_classifier);
  if (fresh || own.empty() || task.regression()) return;
  if (places_of_labels(task.labels, own).empty()) say_other_classes(own, task.labels);
}

void check_model_output(const std::string& out, const std::vector<std::string>& read) {
  check_output_folder(out, read);
  if (is_run_folder(out)) {
    throw ValueError(fmt::format("--out: '{}' is a run's folder; choose another", out));
  }
}

}  // namespace parsimony::cli
