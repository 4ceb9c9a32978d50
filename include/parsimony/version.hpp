// What was built, and what it runs on: for `parsimony doctor`, --version and environment.json.
#pragma once

#include <string>
#include <vector>

namespace parsimony {

/// "0.1.0"
std::string version();
/// Commit of the sources, with "-dirty" if files had changed; "" if they were no git checkout.
std::string git_commit();
/// "gcc 12.2.0"
std::string compiler();
/// meson's buildtype, with ", native" if the kernels were compiled for the building machine's CPU.
std::string build_flags();

/// The machine and the libraries as the program sees them now.
struct Environment {
  std::string version, git_commit, compiler, build;
  /// OpenBLAS's own description, and the kernel family it chose for this CPU ("SkylakeX").
  std::string blas, blas_core;
  int threads = 0;
  std::string cpu;
  /// Vector extensions of this CPU, of those that matter to the kernels.
  std::vector<std::string> cpu_features;
  /// Widest vector extension that the kernels were compiled for: "AVX-512", "AVX2", "SSE2", ...
  std::string simd;
  std::string os;
  /// Decimal separator of the C locale in force; numbers in files never depend on it.
  std::string decimal_point;
  /// Now, "2026-01-31T12:00:00Z".
  std::string date_utc;
};
Environment environment();
/// environment.json.
std::string environment_json();

}  // namespace parsimony
