// One training loop: its clock, its log, its checkpoints.
//
// A checkpoint holds the tracked state after step k - 1, the rows and kept values so far and k, so
// that a run killed at any moment goes on with step k and ends with the same bits. The loop itself
// must cost next to nothing (a step can take 3 microseconds), so the time is looked at only every
// so many steps, as many as take about 10 ms.
#include "run/stage.hpp"

#include <parsimony/error.hpp>
#include <parsimony/variable.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "io/nlohmann.hpp"
#include "run/identity.hpp"

namespace parsimony {

namespace {

constexpr double look_every_seconds = 0.01;
constexpr index_t most_steps_between_looks = 1 << 16;

std::string tracked_key(const std::string& name) { return "tracked." + name; }

// The saved tensor of a tracked one; its absence or another shape means another program.
template <class T>
const Tensor<T>& saved_tensor(const TensorMap& state, const std::string& name, const Shape& shape) {
  const Tensor<T>& saved = state.get<T>(tracked_key(name));
  if (saved.shape() != shape) {
    throw InputError(fmt::format("'{}' has shape {} in it and {} in this program", name,
                                 saved.shape().str(), shape.str()));
  }
  return saved;
}

template <class T>
void copy_into(T* to, const Tensor<T>& from) {
  std::copy(from.begin(), from.end(), to);
}

template <class T>
detail::Tracked tracked_tensor(const std::string& name, Tensor<T> tensor) {
  return {name, [name, tensor](TensorMap& s) { s.set(tracked_key(name), tensor); },
          [name, tensor](const TensorMap& s) mutable {
            copy_into(tensor.mutable_data(), saved_tensor<T>(s, name, tensor.shape()));
          },
          [tensor] { return all_finite(tensor); }};
}

template <class T>
detail::Tracked tracked_variable(const std::string& name, Var<T> variable) {
  return {name, [name, variable](TensorMap& s) { s.set(tracked_key(name), variable.value()); },
          [name, variable](const TensorMap& s) mutable {
            copy_into(variable.mutable_data(), saved_tensor<T>(s, name, variable.shape()));
          },
          [variable] { return all_finite(variable.value()); }};
}

TensorMap copied(TensorMap state) {
  for (const std::string& name : state.names()) {
    const TensorMap::Value value = state.value(name);
    std::visit([&](const auto& tensor) { state.set(name, tensor.clone()); }, value);
  }
  return state;
}

}  // namespace

// --- What is tracked ----------------------------------------------------------------------------

void Stage::track(const std::string& name, const Tensor<double>& tensor) {
  impl_.add(tracked_tensor(name, tensor));
}

void Stage::track(const std::string& name, const Tensor<float>& tensor) {
  impl_.add(tracked_tensor(name, tensor));
}

template <class T>
void Stage::track(const std::vector<std::pair<std::string, Var<T>>>& parameters) {
  for (const auto& [name, variable] : parameters) impl_.add(tracked_variable(name, variable));
}

template void Stage::track(const std::vector<std::pair<std::string, Var<double>>>&);
template void Stage::track(const std::vector<std::pair<std::string, Var<float>>>&);

void Stage::track(const std::string& name, double& scalar) {
  double* const place = &scalar;
  impl_.add(
      {name,
       [name, place](TensorMap& s) { s.set(tracked_key(name), Tensor<double>::scalar(*place)); },
       [name, place](const TensorMap& s) {
         *place = saved_tensor<double>(s, name, Shape{}).item();
       },
       [] { return true; }});
}

void Stage::track(const std::string& name, Rng& rng) {
  Rng* const place = &rng;
  impl_.add({name,
             [name, place](TensorMap& s) {
               Tensor<std::int64_t> words(Shape{4});
               std::memcpy(words.mutable_data(), place->state().data(), 4 * sizeof(std::int64_t));
               s.set(tracked_key(name), words);
             },
             [name, place](const TensorMap& s) {
               const auto& words = saved_tensor<std::int64_t>(s, name, Shape{4});
               std::array<std::uint64_t, 4> state;
               std::memcpy(state.data(), words.data(), 4 * sizeof(std::int64_t));
               place->set_state(state);
             },
             [] { return true; }});
}

void Stage::Impl::add(detail::Tracked value) {
  if (looped) {
    throw ValueError(
        fmt::format("stage '{}': '{}' must be tracked before the loop", context.name, value.name));
  }
  for (const detail::Tracked& other : tracked) {
    if (other.name == value.name) {
      throw ValueError(fmt::format("stage '{}': '{}' tracked twice", context.name, value.name));
    }
  }
  tracked.push_back(std::move(value));
}

// --- The clock ----------------------------------------------------------------------------------

double Stage::Impl::seconds() const {
  if (!clock_runs) return spent;
  return spent + std::chrono::duration<double>(Clock::now() - clock_since).count();
}

void Stage::Impl::start_clock() {
  clock_since = Clock::now();
  clock_runs = true;
}

void Stage::Impl::stop_clock() {
  spent = seconds();
  clock_runs = false;
}

void Stage::off_clock(const std::function<void()>& f) {
  const bool ran = impl_.clock_runs;
  impl_.stop_clock();
  f();
  if (ran) impl_.start_clock();
}

// --- Checkpoints --------------------------------------------------------------------------------

bool Stage::Impl::tracked_is_finite() const {
  return std::all_of(tracked.begin(), tracked.end(),
                     [](const detail::Tracked& value) { return value.finite(); });
}

bool Stage::Impl::save(index_t next_step, bool done) {
  if (!done && !tracked_is_finite()) return false;
  detail::save_checkpoint(context.checkpoint, snapshot(next_step, done));
  beginning = {};
  return true;
}

void Stage::Impl::save_beginning() {
  if (beginning.size() > 0) detail::save_checkpoint(context.checkpoint, beginning);
}

TensorMap Stage::Impl::snapshot(index_t next_step, bool done) const {
  TensorMap state;
  if (!done) {
    for (const detail::Tracked& value : tracked) value.save(state);
  }
  const auto rows = static_cast<index_t>(record.rows_.size());
  const auto columns = static_cast<index_t>(record.columns_.size());
  Tensor<std::int64_t> steps(Shape{rows});
  Tensor<double> seconds_column(Shape{rows});
  Tensor<double> values =
      Tensor<double>::full(Shape{rows, columns}, std::numeric_limits<double>::quiet_NaN());
  std::int64_t* const step_data = steps.mutable_data();
  double* const seconds_data = seconds_column.mutable_data();
  double* const value_data = values.mutable_data();
  for (index_t i = 0; i < rows; ++i) {
    const Record::Row& row = record.rows_[static_cast<std::size_t>(i)];
    step_data[i] = row.step;
    seconds_data[i] = row.seconds;
    std::copy(row.values.begin(), row.values.end(), value_data + i * columns);
  }
  state.set("row.step", steps);
  state.set("row.seconds", seconds_column);
  state.set("row.values", values);
  state.set("step", Tensor<std::int64_t>::scalar(done ? record.last_step_ : next_step));
  state.set("seconds", Tensor<double>::scalar(spent));
  for (const auto& [name, tensor] : record.tensors_) state.set("tensor." + name, tensor);
  for (const auto& [name, value] : record.scalars_) {
    state.set("scalar." + name, Tensor<double>::scalar(value));
  }
  state.metadata["stage"] = context.name;
  state.metadata["done"] = done ? "yes" : "no";
  state.metadata["columns"] = nlohmann::json(record.columns_).dump();
  state.metadata["configuration"] = context.identity;
  return state;
}

bool Stage::Impl::load() {
  loaded = detail::load_checkpoint(context.checkpoint);
  has_loaded = true;
  for (const char* text : {"stage", "done", "columns", "configuration"}) {
    if (loaded.metadata.count(text) == 0) {
      detail::throw_bad_checkpoint(context.checkpoint, fmt::format("it has no '{}'", text));
    }
  }
  if (loaded.metadata["stage"] != context.name) {
    detail::throw_bad_checkpoint(context.checkpoint,
                                 fmt::format("it belongs to stage '{}'", loaded.metadata["stage"]));
  }
  detail::require_same_identity(loaded.metadata["configuration"], context.identity,
                                context.checkpoint);
  if (loaded.metadata["done"] != "yes") return false;
  restore_record(loaded);
  record.last_step_ = step;
  record.total_seconds_ = spent;
  return true;
}

void Stage::Impl::restore_record(const TensorMap& state) {
  const std::lock_guard<std::mutex> lock(*context.rows);
  try {
    record.columns_ =
        nlohmann::json::parse(state.metadata.at("columns")).get<std::vector<std::string>>();
    const auto& steps = state.get<std::int64_t>("row.step");
    const auto& seconds_column = state.get<double>("row.seconds");
    const auto& values = state.get<double>("row.values");
    const auto columns = static_cast<index_t>(record.columns_.size());
    if (seconds_column.size() != steps.size() || values.size() != steps.size() * columns) {
      throw InputError("its rows do not fit together");
    }
    record.rows_.clear();
    for (index_t i = 0; i < steps.size(); ++i) {
      const double* const row = values.data() + i * columns;
      record.rows_.push_back(
          {steps.data()[i], seconds_column.data()[i], std::vector<double>(row, row + columns)});
    }
    record.tensors_.clear();
    record.scalars_.clear();
    for (const std::string& key : state.names()) {
      if (key.compare(0, 7, "tensor.") == 0) {
        record.tensors_[key.substr(7)] = state.get<double>(key);
      } else if (key.compare(0, 7, "scalar.") == 0) {
        record.scalars_[key.substr(7)] = state.get<double>(key).item();
      }
    }
    step = state.get<std::int64_t>("step").item();
    spent = state.get<double>("seconds").item();
  } catch (const std::exception& error) {
    detail::throw_bad_checkpoint(context.checkpoint, error.what());
  }
}

void Stage::Impl::restore() {
  restore_record(loaded);
  try {
    std::size_t known = 0;
    for (const std::string& key : loaded.names()) {
      known += key.compare(0, 8, "tracked.") == 0 ? 1 : 0;
    }
    for (const detail::Tracked& value : tracked) value.restore(loaded);
    if (known != tracked.size()) {
      throw InputError(fmt::format("it tracks {} values, this program {}", known, tracked.size()));
    }
  } catch (const InputError& error) {
    detail::throw_bad_checkpoint(context.checkpoint, error.what());
  }
  loaded = {};
}

// --- The loop -----------------------------------------------------------------------------------

std::string Stage::Impl::last_logged() const {
  if (record.rows_.empty()) return "";
  const std::vector<double>& values = record.rows_.back().values;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isnan(values[i])) return fmt::format("{} {:.4g}", record.columns_[i], values[i]);
  }
  return "";
}

void Stage::Impl::housekeeping(index_t next_step, Clock::time_point now) {
  context.progress->update(next_step, now, last_logged());
  if (now >= next_checkpoint) {
    stop_clock();
    save(next_step, false);
    const auto after = Clock::now();
    // However large the state, at most a tenth of the time goes into saving it.
    const double pause = std::max(context.checkpoint_seconds,
                                  10 * std::chrono::duration<double>(after - now).count());
    next_checkpoint =
        after + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(pause));
    start_clock();
  }
  stop_clock();
  context.save_metrics();
  start_clock();
}

bool Stage::Impl::asked_to_stop() const {
  return interrupt_requested() || (context.cancelled != nullptr && *context.cancelled);
}

void Stage::expect(index_t steps) { impl_.expected = steps; }

void Stage::loop(index_t max_steps, const std::function<bool(index_t)>& body) {
  Impl& impl = impl_;
  if (impl.looped) throw ValueError(fmt::format("stage '{}': one loop a stage", impl.context.name));
  if (max_steps < 0) {
    throw ValueError(
        fmt::format("stage '{}': expected at least 0 steps; got {}", impl.context.name, max_steps));
  }
  impl.looped = true;
  if (impl.has_loaded) {
    impl.restore();
  } else {
    impl.step = 0;
    if (impl.tracked_is_finite()) impl.beginning = copied(impl.snapshot(0, false));
  }
  const index_t first = impl.step;
  impl.context.progress->begin(impl.context.experiment + " " + impl.context.name, first, max_steps,
                               impl.expected);
  using Clock = Impl::Clock;
  auto looked = Clock::now();
  impl.next_checkpoint =
      looked + std::chrono::duration_cast<Clock::duration>(
                   std::chrono::duration<double>(impl.context.checkpoint_seconds));
  index_t stride = 1;
  index_t until_look = 1;
  impl.start_clock();
  for (index_t step = first; step <= max_steps; ++step) {
    if (impl.asked_to_stop()) {
      impl.stop_clock();
      const bool saved = impl.save(step, false);
      impl.context.progress->finish();
      throw Interrupted(
          saved ? fmt::format("stage '{}' saved at step {}", impl.context.name, step)
                : fmt::format("stage '{}' stopped at step {}; its values are not finite, so the "
                              "checkpoint before stays",
                              impl.context.name, step));
    }
    impl.step = step;
    if (body(step) == stop) break;
    if (--until_look == 0) {
      const auto now = Clock::now();
      const double elapsed = std::chrono::duration<double>(now - looked).count();
      const double wanted =
          static_cast<double>(stride) * look_every_seconds / std::max(elapsed, 1e-9);
      stride = std::clamp(static_cast<index_t>(std::min(wanted, 2.0 * static_cast<double>(stride))),
                          index_t{1}, most_steps_between_looks);
      until_look = stride;
      looked = now;
      if (step < max_steps) impl.housekeeping(step + 1, now);
    }
  }
  impl.stop_clock();
  impl.context.progress->finish();
}

// --- The log ------------------------------------------------------------------------------------

void Stage::log(index_t step, const std::vector<std::pair<std::string, double>>& values) {
  Record& record = impl_.record;
  Record::Row row;
  row.step = step;
  row.seconds = impl_.seconds();
  const std::lock_guard<std::mutex> lock(*impl_.context.rows);
  row.values.assign(record.columns_.size(), std::numeric_limits<double>::quiet_NaN());
  for (const auto& [name, value] : values) {
    const auto found = std::find(record.columns_.begin(), record.columns_.end(), name);
    const auto index = static_cast<std::size_t>(found - record.columns_.begin());
    if (found == record.columns_.end()) {
      record.columns_.push_back(name);
      row.values.push_back(value);
    } else {
      row.values[index] = value;
    }
  }
  record.rows_.push_back(std::move(row));
}

double Stage::finite(const std::string& name, double value) const {
  if (std::isfinite(value)) return value;
  throw NumericalError(
      fmt::format("{} became {} in stage '{}' at step {}", name,
                  std::isnan(value) ? "NaN" : "infinite", impl_.context.name, impl_.step),
      impl_.step);
}

void Stage::keep(const std::string& name, const Tensor<double>& tensor) {
  // A copy: what is handed in is often a weight that the optimiser goes on changing.
  impl_.record.tensors_[name] = tensor.clone();
}

void Stage::keep(const std::string& name, double scalar) { impl_.record.scalars_[name] = scalar; }

index_t Stage::step() const { return impl_.step; }

double Stage::seconds() const { return impl_.seconds(); }

}  // namespace parsimony
