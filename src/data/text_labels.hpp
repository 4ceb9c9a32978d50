// Fields of a table as labels of a task; what is wrong is said with file and line.
#pragma once

#include <parsimony/text_tasks.hpp>

#include <string>
#include <vector>

namespace parsimony::detail {

/// The number of a label: for regression its value, for classes its place among `codes`, the words
/// that files use for task.labels. @throws InputError beginning with table.where(row).
double label_of(const TextTask& task, const std::vector<std::string>& codes, const TextTable& table,
                std::size_t row, const std::string& field);

/// Examples from a table whose columns are the text or both texts and the label.
std::vector<TextExample> examples_of(const TextTask& task, const std::vector<std::string>& codes,
                                     const TextTable& table);

}  // namespace parsimony::detail
