// What the commands on language models share: the task's options, adapter folders with their task,
// and a model ready to answer.
#pragma once

#include <parsimony/finetune.hpp>
#include <parsimony/peft.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.hpp"

namespace parsimony::cli {

/// --task NAME, or --train/--dev/--columns of a user's own tables.
struct TaskSettings {
  std::string task, train, dev, columns, goal = "detect", header = "detect", data;
  std::optional<index_t> max_length;
};
std::vector<Option> task_options(TaskSettings& s, bool with_train);
/// @throws ValueError unless either a task or files are named.
void check_named(const TaskSettings& s);
/// `only`: the split of a named task that is wanted, "" for all. @throws as check_named, and what
/// loading throws.
TextSplits load_splits(const TaskSettings& s, const std::string& only = "");
/// How --columns, --goal and --header say that a user's tables are to be read. @throws ValueError.
UserTaskOptions table_options(const TaskSettings& s);
/// Whether the task is on images.
bool is_image_task(const TaskSettings& s);
/// The images of such a task. @throws ValueError if files are named beside it; as load_image_task.
ImageSplits load_images(const TaskSettings& s);
/// The task as the model reads it. @throws as load_splits, encode_task, image_task.
EncodedTask load_encoded(const TaskSettings& s, const BaseModel& base);

/// task.json in an adapter or model folder: what the outputs mean, and the base that was trained.
void save_task(const TextTask& task, const std::string& folder, const std::string& base = "");
/// @throws InputError naming file and key.
TextTask read_task(const std::string& folder, std::string* base = nullptr);
bool has_task(const std::string& folder);

/// How the base is named in files: the shipped one and fresh weights by name, a folder by its full
/// path.
std::string lasting_name(const BaseModel& base);

/// An adapter folder, native or PEFT's, before a model is at hand.
struct AdapterSource {
  std::string folder;
  std::optional<PeftFolder> peft;
  std::string base;  // what it says it was trained on; may be ""
  std::optional<TextTask> task;

  /// `given` may be a run folder, whose adapter/ is taken. @throws InputError.
  explicit AdapterSource(const std::string& given);
};

/// The model to load: the one that is named, or the adapter's base; "" is the shipped one.
/// @throws InputError if that is a folder which is not here.
std::string base_for(const std::string& model, const AdapterSource& adapter);

/// A model that answers: the base, with an adapter on where one is named. Without a model's name
/// the adapter says which it was trained on.
struct Answering {
  std::optional<AdapterSource> adapter;
  BaseModel base;
  TextTask task;
  std::unique_ptr<Model<float>> model;
  AdapterFolder native;             // of a native adapter
  std::vector<std::string> extras;  // parameters that the adapter folder stores whole
  std::vector<std::string> fresh;   // parameters that nobody stored: they answer at random
  /// Where neither the base nor the adapter has a head, it is drawn fresh for `wanted`.
  Answering(const std::string& model, const std::string& adapter_folder,
            const TextTask* wanted = nullptr);
};

/// "pooler, classifier": the parts of a model that these parameters belong to.
std::string parts_of(const std::vector<std::string>& parameters);
/// Says on stderr what is left at random.
void warn_of_fresh(const Answering& answering);
/// Says where a trained head's classes have other names than the task's.
void say_of_head(const BaseModel& base, const TextTask& task, const LoadReport& report);
/// That outputs of the one name are taken for the other.
void say_other_classes(const std::vector<std::string>& model, const std::vector<std::string>& task);

/// For a command whose output is a model or an adapter. @throws as check_output_folder; ValueError
/// if `out` is a run's folder.
void check_model_output(const std::string& out, const std::vector<std::string>& read);

}  // namespace parsimony::cli
