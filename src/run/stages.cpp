// Stages side by side: a few threads take them in order, one thread of computation each.
#include <parsimony/error.hpp>
#include <parsimony/run.hpp>
#include <parsimony/threads.hpp>

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include <fmt/format.h>

#include "run/stage.hpp"
#include "run/state.hpp"

namespace parsimony {

namespace {

bool is_interruption(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Interrupted&) {
    return true;
  } catch (...) {
    return false;
  }
}

/// The error to report: a failure before the interruptions that it caused.
std::exception_ptr first_error(const std::vector<std::exception_ptr>& errors) {
  std::exception_ptr first;
  for (const std::exception_ptr& error : errors) {
    if (!error) continue;
    if (!is_interruption(error)) return error;
    if (!first) first = error;
  }
  return first;
}

/// True while it lives.
class Flag {
 public:
  explicit Flag(bool& flag) : flag_(flag) { flag_ = true; }
  ~Flag() { flag_ = false; }
  Flag(const Flag&) = delete;
  Flag& operator=(const Flag&) = delete;

 private:
  bool& flag_;
};

}  // namespace

std::vector<const Record*> Run::stages(const std::string& label,
                                       const std::vector<Member>& members) {
  Impl& run = *impl_;
  if (run.in_group) throw ValueError(fmt::format("stages '{}' inside others", label));
  // All records first: threads must not move the list under each other.
  std::vector<Impl::NamedRecord*> named;
  std::vector<const Record*> records;
  for (const Member& member : members) {
    named.push_back(&run.new_record(member.name));
    records.push_back(&named.back()->record);
  }

  const Flag group(run.in_group);
  detail::GroupProgress progress(run.progress, run.name + " " + label, members.size());
  std::vector<std::exception_ptr> errors(members.size());
  std::atomic<bool> cancelled{false};
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    const ThreadLimit one(1);
    while (!cancelled && !interrupt_requested()) {
      const std::size_t i = next++;
      if (i >= members.size()) return;
      try {
        const bool before =
            run.run_stage(*named[i], members[i].body, progress.member(i), &cancelled);
        progress.done(i, before);
      } catch (...) {
        errors[i] = std::current_exception();
        cancelled = true;
      }
    }
  };
  const std::size_t count =
      std::min(members.size(), static_cast<std::size_t>(std::max(1, num_threads())));
  std::vector<std::thread> threads;
  try {
    for (std::size_t t = 1; t < count; ++t) threads.emplace_back(work);
  } catch (const std::system_error&) {  // as many as the system gives
  }
  work();
  for (std::thread& thread : threads) thread.join();

  if (const std::exception_ptr error = first_error(errors)) std::rethrow_exception(error);
  if (next < members.size()) {  // asked to stop between two stages
    throw Interrupted(fmt::format("stopped in '{}'; the stages that are done are saved", label));
  }
  return records;
}

}  // namespace parsimony
