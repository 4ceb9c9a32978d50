// What the commands on language models share: the task's options, adapter folders with their task,
// and a model ready to answer.
#pragma once

#include <parsimony/finetune.hpp>

#include <memory>
#include <string>
#include <vector>

#include "cli/command.hpp"

namespace parsimony::cli {

/// --task NAME, or --train/--dev/--columns of a user's own tables.
struct TaskSettings {
  std::string task, train, dev, columns, goal = "detect", data;
  index_t max_length = 128;
};
std::vector<Option> task_options(TaskSettings& s, bool with_train);
/// @throws ValueError unless either a task or files are named; what loading throws.
TextSplits load_splits(const TaskSettings& s);
/// Whether the task is on images.
bool is_image_task(const TaskSettings& s);
/// The task as the model reads it. @throws as load_splits, encode_task, image_task.
EncodedTask load_encoded(const TaskSettings& s, const BaseModel& base);

/// adapter/task.json: what the outputs of a model mean.
void save_task(const TextTask& task, const std::string& folder);
/// @throws InputError naming file and key.
TextTask read_task(const std::string& folder);

/// A model that answers: the base, with an adapter on where one is named.
struct Answering {
  BaseModel base;
  TextTask task;
  std::unique_ptr<Model<float>> model;
  Answering(const std::string& model_folder, const std::string& adapter_folder);
};

}  // namespace parsimony::cli
