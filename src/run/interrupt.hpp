// The flag that Ctrl-C sets, for the runner and for tests.
#pragma once

namespace parsimony::detail {

/// Sets or clears what interrupt_requested() answers.
void set_interrupt_requested(bool value);

}  // namespace parsimony::detail
