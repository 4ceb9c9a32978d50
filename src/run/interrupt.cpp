// Ctrl-C and SIGTERM: the first asks the running stage to save and stop, the second kills at once.
// SIGUSR1 only asks, however often: what a command sends to the runs that it started.
#include "run/interrupt.hpp"

#include <parsimony/run.hpp>

#include <atomic>
#include <csignal>

namespace parsimony {

namespace {

std::atomic<bool> requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch such");

extern "C" void parsimony_on_signal(int number) {
  if (requested.exchange(true) && number != SIGUSR1) {
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = parsimony_on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
}

void remove_interrupt_handler() {
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) std::signal(number, SIG_DFL);
}

bool interrupt_requested() { return requested.load(std::memory_order_relaxed); }

namespace detail {

void set_interrupt_requested(bool value) { requested = value; }

}  // namespace detail

}  // namespace parsimony
