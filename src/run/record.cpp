// Reading what a stage recorded.
#include <parsimony/error.hpp>
#include <parsimony/run.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

template <class Map>
const auto& find_kept(const Map& map, const char* what, const std::string& name) {
  const auto found = map.find(name);
  if (found != map.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& item : map) names.push_back(item.first);
  throw ValueError(
      fmt::format("record: no {} '{}'; there are: {}", what, name, fmt::join(names, ", ")));
}

// pick(row) for the rows that have the column.
template <class Pick>
std::vector<double> select(const Record& record, const std::string& column, const Pick& pick) {
  const auto& columns = record.columns();
  const auto found = std::find(columns.begin(), columns.end(), column);
  if (found == columns.end()) {
    throw ValueError(
        fmt::format("record: no column '{}'; there are: {}", column, fmt::join(columns, ", ")));
  }
  const auto index = static_cast<std::size_t>(found - columns.begin());
  std::vector<double> out;
  for (const Record::Row& row : record.rows()) {
    if (index < row.values.size() && !std::isnan(row.values[index])) {
      out.push_back(pick(row, row.values[index]));
    }
  }
  return out;
}

}  // namespace

std::vector<double> Record::series(const std::string& column) const {
  return select(*this, column, [](const Row&, double value) { return value; });
}

std::vector<double> Record::steps(const std::string& column) const {
  return select(*this, column,
                [](const Row& row, double) { return static_cast<double>(row.step); });
}

std::vector<double> Record::seconds(const std::string& column) const {
  return select(*this, column, [](const Row& row, double) { return row.seconds; });
}

double Record::last(const std::string& column) const {
  const std::vector<double> values = series(column);
  if (values.empty()) throw ValueError(fmt::format("record: column '{}' is empty", column));
  return values.back();
}

const Tensor<double>& Record::tensor(const std::string& name) const {
  return find_kept(tensors_, "tensor", name);
}

double Record::scalar(const std::string& name) const { return find_kept(scalars_, "scalar", name); }

}  // namespace parsimony
