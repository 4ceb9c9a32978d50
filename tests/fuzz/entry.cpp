// libFuzzer's door to one target: compiled once for each, with FUZZ_TARGET its name. An exception
// that leaves the target ends the program, which libFuzzer reports as a crash.
#include "fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  parsimony::fuzz::FUZZ_TARGET({data, size});
  return 0;
}
