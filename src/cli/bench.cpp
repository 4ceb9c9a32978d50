// parsimony bench: the benchmarks in bench/, through Google Benchmark.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/threads.hpp>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <ostream>

#include <fmt/format.h>
#include <sys/mman.h>

#include "cli/command.hpp"

#ifdef PARSIMONY_BENCHMARKS
#include <benchmark/benchmark.h>
#endif

namespace parsimony::cli {

namespace {

struct BenchSettings {
  std::string filter;
  std::string json;
  int repetitions = 1;
  double min_time = 0.5;
  int threads = threads_unset;
  bool quiet = false;
};

#ifdef PARSIMONY_BENCHMARKS

int run(const BenchSettings& s) {
  if (s.repetitions < 1) {
    throw ValueError(fmt::format("--repetitions: expected at least 1; got {}", s.repetitions));
  }
  if (!(s.min_time > 0) || !std::isfinite(s.min_time)) {
    throw ValueError(fmt::format("--min-time: expected seconds above 0; got {}", s.min_time));
  }
  apply_threads(s.threads);
  std::string measured;  // Google Benchmark writes here: to memory, which nothing can leave behind
  if (!s.json.empty()) {
    AtomicFile probe(s.json);  // told now rather than after the measurements
    const int memory = memfd_create("bench", 0);
    if (memory < 0) throw IoError(fmt::format("memory file: {}", std::strerror(errno)));
    measured = fmt::format("/proc/self/fd/{}", memory);
  }
  std::vector<std::string> arguments = {"parsimony bench",
                                        fmt::format("--benchmark_repetitions={}", s.repetitions),
                                        fmt::format("--benchmark_min_time={}", s.min_time)};
  if (!s.filter.empty()) arguments.push_back("--benchmark_filter=" + s.filter);
  if (!measured.empty()) {
    arguments.push_back("--benchmark_out=" + measured);
    arguments.push_back("--benchmark_out_format=json");
  }
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  int argc = static_cast<int>(argv.size());
  benchmark::Initialize(&argc, argv.data());
  benchmark::AddCustomContext("parsimony_threads", std::to_string(num_threads()));
  using Console = benchmark::ConsoleReporter;
  Console table(color_on_stdout() ? Console::OO_Color : Console::OO_None);
  std::ostream nowhere(nullptr);
  if (s.quiet) table.SetErrorStream(&nowhere);  // where it describes the machine
  const std::size_t count = benchmark::RunSpecifiedBenchmarks(&table);
  benchmark::Shutdown();
  if (!measured.empty() && count > 0) write_file_atomically(s.json, read_file(measured));
  if (count == 0) {
    throw ValueError(fmt::format("bench: no benchmark's name matches '{}'", s.filter));
  }
  return 0;
}

#else

int run(const BenchSettings&) {
  throw ValueError(
      "bench: this program was built without Google Benchmark; install libbenchmark-dev and build "
      "with -Dbenchmarks=true");
}

#endif

}  // namespace

Command bench_command() {
  auto s = std::make_shared<BenchSettings>();
  Command c;
  c.name = "bench";
  c.summary = "Time training steps and products on this machine";
  c.details =
      "Each time is one training step (forward, backward, update) in steady state; bert_forward is "
      "one evaluation. bert_… are batches of 16 x 128 tokens, adapters of rank 8 on all dense "
      "layers; base takes minutes. Beside PyTorch: bench/peers/run_pairs.py.";
  c.examples = {"parsimony bench", "parsimony bench 'dmf_step/full' --threads 1",
                "parsimony bench 'bert_step/deep-lora/(tiny|mini)'",
                "parsimony bench gemm --json times.json",
                "parsimony bench completion --repetitions 7 --min-time 0.1"};
  c.options = {
      {"FILTER", "", "regular expression on the names (default: all)", &s->filter},
      {"--repetitions", "N",
       "measure each so often, set up anew, and show the median too (default: 1)", &s->repetitions},
      {"--min-time", "S", "seconds a repetition takes at least (default: 0.5)", &s->min_time},
      {"--json", "FILE", "write Google Benchmark's JSON there", &s->json},
      threads_option(&s->threads),
      quiet_option(&s->quiet)};
  c.action = [s] { return run(*s); };
  return c;
}

}  // namespace parsimony::cli
