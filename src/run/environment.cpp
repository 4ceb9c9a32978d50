// What was built and what it runs on, for environment.json and `parsimony doctor`: a number in a
// report can then be traced to the compiler, the BLAS kernel family and the CPU that made it.
#include "run/environment.hpp"

#include <parsimony/threads.hpp>
#include <parsimony/version.hpp>

#include <clocale>
#include <ctime>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <sys/utsname.h>

#include "build_info.hpp"
#include "io/nlohmann.hpp"

extern "C" {
char* openblas_get_config();
char* openblas_get_corename();
}

namespace parsimony {

namespace {

// The value of the first "key : value" line of /proc/cpuinfo.
std::string cpu_info(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    return colon + 2 <= line.size() ? line.substr(colon + 2) : "";
  }
  return "";
}

std::vector<std::string> vector_extensions() {
  std::istringstream flags(cpu_info("flags") + " " + cpu_info("Features"));
  std::vector<std::string> found;
  std::string flag;
  while (flags >> flag) {
    for (const char* known : {"sse4_2", "avx", "fma", "avx2", "avx512f", "avx512vl", "avx512dq",
                              "avx512_bf16", "amx_tile", "asimd", "sve"}) {
      if (flag == known) found.push_back(flag);
    }
  }
  return found;
}

const char* compiled_simd() {
#if defined(__AVX512F__)
  return "AVX-512";
#elif defined(__AVX2__)
  return "AVX2";
#elif defined(__AVX__)
  return "AVX";
#elif defined(__SSE2__)
  return "SSE2";
#elif defined(__ARM_NEON)
  return "NEON";
#else
  return "none";
#endif
}

std::string operating_system() {
  std::ifstream file("/etc/os-release");
  std::string line, name;
  while (std::getline(file, line)) {
    if (line.compare(0, 12, "PRETTY_NAME=") == 0) name = line.substr(12);
  }
  if (name.size() >= 2 && name.front() == '"') name = name.substr(1, name.size() - 2);
  utsname kernel{};
  if (uname(&kernel) == 0) {
    name += fmt::format("{}{} {} {}", name.empty() ? "" : ", ", kernel.sysname, kernel.release,
                        kernel.machine);
  }
  return name;
}

std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string text_or_empty(const char* text) { return text != nullptr ? text : ""; }

}  // namespace

std::string version() { return PARSIMONY_VERSION; }

std::string git_commit() {
  const std::string commit = detail::commit;
  return commit == "unknown" ? "" : commit;
}

std::string compiler() { return PARSIMONY_COMPILER; }

std::string build_flags() {
  const bool native = std::string(PARSIMONY_NATIVE) == "true";
  return std::string(PARSIMONY_BUILDTYPE) + (native ? ", native" : "");
}

Environment environment() {
  Environment e;
  e.version = version();
  e.git_commit = git_commit();
  e.compiler = compiler();
  e.build = build_flags();
  e.blas = text_or_empty(openblas_get_config());
  e.blas_core = text_or_empty(openblas_get_corename());
  e.threads = num_threads();
  e.cpu = cpu_info("model name");
  e.cpu_features = vector_extensions();
  e.simd = compiled_simd();
  e.os = operating_system();
  e.decimal_point = std::localeconv()->decimal_point;
  e.date_utc = now_utc();
  return e;
}

std::string environment_json() {
  const Environment e = environment();
  nlohmann::ordered_json object;
  object["version"] = e.version;
  if (e.git_commit.empty()) {
    object["git_commit"] = nullptr;
  } else {
    object["git_commit"] = e.git_commit;
  }
  object["compiler"] = e.compiler;
  object["build"] = e.build;
  object["blas"] = e.blas;
  object["blas_core"] = e.blas_core;
  object["threads"] = e.threads;
  object["cpu"] = e.cpu;
  object["cpu_features"] = e.cpu_features;
  object["simd"] = e.simd;
  object["os"] = e.os;
  object["date"] = e.date_utc;
  return object.dump(2) + "\n";
}

}  // namespace parsimony
