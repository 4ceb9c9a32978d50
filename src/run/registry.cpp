// The experiments that registered themselves, in the order of the paper.
#include <parsimony/error.hpp>
#include <parsimony/experiment.hpp>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace parsimony {

namespace {

struct Registered {
  int order;
  std::unique_ptr<Experiment> experiment;
};

// A function's static, because registrations run before main in no particular order.
std::vector<Registered>& registry() {
  static std::vector<Registered> all;
  return all;
}

}  // namespace

namespace detail {

ExperimentRegistration::ExperimentRegistration(int order, std::unique_ptr<Experiment> experiment) {
  registry().push_back({order, std::move(experiment)});
}

}  // namespace detail

std::vector<const Experiment*> experiments() {
  std::vector<std::pair<std::pair<int, std::string>, const Experiment*>> sorted;
  for (const Registered& r : registry()) {
    sorted.push_back({{r.order, r.experiment->info().name}, r.experiment.get()});
  }
  std::sort(sorted.begin(), sorted.end());
  std::vector<const Experiment*> result;
  for (const auto& item : sorted) result.push_back(item.second);
  return result;
}

const Experiment& find_experiment(const std::string& name) {
  std::vector<std::string> names;
  for (const Experiment* experiment : experiments()) {
    names.push_back(experiment->info().name);
    if (names.back() == name) return *experiment;
  }
  const std::string near = nearest_name(name, names);
  if (!near.empty()) {
    throw ValueError(fmt::format("unknown experiment '{}'; did you mean '{}'?", name, near));
  }
  throw ValueError(fmt::format("unknown experiment '{}'; the experiments are: {}", name,
                               fmt::join(names, ", ")));
}

}  // namespace parsimony
