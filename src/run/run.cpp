// What an experiment does with its run: stages, arrays, figures, claims, data files.
#include <parsimony/run.hpp>

#include <parsimony/error.hpp>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "run/stage.hpp"
#include "run/state.hpp"

namespace parsimony {

namespace fs = std::filesystem;

Run::Run(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Run::~Run() = default;

const Config& Run::config() const { return impl_->config; }
Rng Run::rng() const { return Rng(impl_->options.seed); }
std::uint64_t Run::seed() const { return impl_->options.seed; }
const std::string& Run::preset() const { return impl_->options.preset; }

const std::string& Run::folder() const {
  impl_->begin();
  return impl_->folder;
}

const std::string& Run::data_folder() const { return impl_->options.data; }

std::string Run::data_file(const std::string& relative, const std::string& where_to_get_it) const {
  return parsimony::data_file(impl_->options.data, relative, where_to_get_it);
}

Run::Impl::NamedRecord& Run::Impl::new_record(const std::string& stage) {
  if (stage.empty()) throw ValueError("stage: expected a name; got ''");
  for (const auto& other : stages) {
    if (other->name == stage) throw ValueError(fmt::format("stage '{}' run twice", stage));
  }
  begin();
  if (interrupt_requested()) {
    throw Interrupted(
        fmt::format("stopped before stage '{}'; the stages before it are saved", stage));
  }
  stages.push_back(std::make_unique<NamedRecord>());
  stages.back()->name = stage;
  return *stages.back();
}

bool Run::Impl::run_stage(NamedRecord& named, const std::function<void(Stage&)>& body,
                          detail::LoopProgress& loop, const std::atomic<bool>* cancelled) {
  Record& record = named.record;
  detail::StageContext context;
  context.experiment = name;
  context.name = named.name;
  context.checkpoint = detail::checkpoint_path(folder, named.name);
  context.identity = identity;
  context.checkpoint_seconds = options.checkpoint_seconds;
  context.progress = &loop;
  context.save_metrics = [this] { save_metrics(false); };
  context.rows = &rows;
  context.cancelled = cancelled;
  Stage::Impl impl(record, std::move(context));
  Stage stage(impl);
  std::error_code error;
  if (options.resume && fs::exists(impl.context.checkpoint, error) && impl.load()) return true;
  try {
    body(stage);
  } catch (const NumericalError& divergence) {
    loop.finish();
    try {
      impl.save_beginning();
    } catch (const IoError& no_room) {
      progress.say(no_room.what());  // the divergence is what the user must hear of
    }
    if (divergence.step() >= 0) throw;
    throw NumericalError(
        fmt::format("{} (stage '{}', step {})", divergence.what(), named.name, stage.step()),
        stage.step());
  }
  record.last_step_ = impl.step;
  record.total_seconds_ = impl.spent;
  impl.save(impl.step, true);
  save_metrics(false);
  return false;
}

const Record& Run::stage(const std::string& name, const std::function<void(Stage&)>& body) {
  if (impl_->in_group) throw ValueError(fmt::format("stage '{}' inside another", name));
  Impl::NamedRecord& named = impl_->new_record(name);
  impl_->run_stage(named, body, impl_->progress);
  return named.record;
}

void Run::array(const std::string& name, const Tensor<double>& tensor) {
  impl_->reals.insert_or_assign(name, Impl::Array<double>{tensor, tensor.version()});
}

void Run::array(const std::string& name, const Tensor<float>& tensor) {
  impl_->floats.insert_or_assign(name, Impl::Array<float>{tensor, tensor.version()});
}

void Run::array(const std::string& name, const Tensor<std::uint8_t>& tensor) {
  impl_->bytes.insert_or_assign(name, Impl::Array<std::uint8_t>{tensor, tensor.version()});
}

void Run::array(const std::string& name, const Tensor<std::int64_t>& tensor) {
  impl_->integers.insert_or_assign(name, Impl::Array<std::int64_t>{tensor, tensor.version()});
}

void Run::array_note(const std::string& key, const std::string& value) {
  impl_->notes[key] = value;
}

void Run::figure(const Figure& figure) {
  impl_->begin();
  impl_->progress.finish();
  try {
    write_figure(impl_->folder, figure);
  } catch (const IoError&) {
    if (!interrupt_requested()) throw;
  }
  // A terminal's Ctrl-C stops gnuplot too; the figure is drawn again on resume.
  if (interrupt_requested()) {
    throw Interrupted(fmt::format("stopped at figure '{}'; the stages are saved", figure.name));
  }
}

void Run::claim(const std::string& id, bool holds, const std::string& measured) {
  Claim& claim = impl_->stated_claim(id);
  claim.verdict = holds ? Claim::holds : Claim::fails;
  claim.measured = measured;
}

void Run::claim_not_run(const std::string& id, const std::string& why) {
  Claim& claim = impl_->stated_claim(id);
  claim.verdict = Claim::not_run;
  claim.measured = why;
}

void Run::say(const std::string& line) const { impl_->progress.say(line); }

}  // namespace parsimony
