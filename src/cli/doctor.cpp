// parsimony doctor: what this program was built with and what it finds on this machine.
#include <parsimony/files.hpp>
#include <parsimony/tokenizer.hpp>
#include <parsimony/version.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <fmt/format.h>

#include "cli/command.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::cli {

namespace {

struct DoctorSettings {
  std::string data;
  bool json = false;
};

struct DataSet {
  const char* name;
  const char* file;  // its presence tells that the set is there
};

constexpr DataSet data_sets[] = {
    {"MovieLens 100K", "movielens-100k/u.data"},
    {"MovieLens latest-small", "movielens-latest-small/ratings.csv"},
    {"STS-B", "stsb/sts-train.csv"},
    {"SST-2", "sst2/train.tsv"},
    {"CoLA", "cola/train.tsv"},
    {"RTE", "rte/train.tsv"},
    {"MRPC", "mrpc/msr_paraphrase_train.txt"},
    {"QNLI (dev)", "qnli/dev.tsv"},
    {"SICK", "sick/SICK.txt"},
    {"E2E NLG", "e2e/devset.csv"},
    {"BERT vocabulary", "vocab/bert-base-uncased-vocab.txt"},
    {"GPT-2 vocabulary", "vocab/gpt2-vocab.json"},
    {"stories260K", "stories260k/stories260K.bin"},
    {"MNIST", "mnist/train10k-images-idx3-ubyte"},
    {"optical digits", "optdigits/optdigits.tra"},
    {"text for pre-training", "text/wikitext2-valid.txt"},
};

constexpr const char* determinism =
    "the same build on the same CPU with the same seed and --threads gives the same bits, also "
    "through a kill and --resume; another CPU, BLAS or thread count may round differently";

// "" if it is not there.
std::string gnuplot_version() {
  FILE* pipe = popen("gnuplot --version 2>/dev/null", "r");
  if (pipe == nullptr) return "";
  std::array<char, 128> line{};
  const bool some = std::fgets(line.data(), line.size(), pipe) != nullptr;
  const int status = pclose(pipe);
  if (!some || status != 0) return "";
  std::string text = line.data();
  text.erase(text.find_last_not_of("\r\n ") + 1);
  return text;
}

void print_json(const DoctorSettings& s) {
  nlohmann::ordered_json object = nlohmann::ordered_json::parse(environment_json());
  const std::string gnuplot = gnuplot_version();
  object["decimal_point"] = environment().decimal_point;
  if (gnuplot.empty()) {
    object["gnuplot"] = nullptr;
  } else {
    object["gnuplot"] = gnuplot;
  }
  object["unicode"] = unicode_version();
  object["determinism"] = determinism;
  nlohmann::ordered_json data = nlohmann::ordered_json::array();
  for (const DataSet& set : data_sets) {
    const std::string path = find_data_file(s.data, set.file);
    data.push_back({{"name", set.name}, {"file", set.file}, {"found", !path.empty()}});
    if (!path.empty()) data.back()["path"] = path;
  }
  object["data"] = data;
  fmt::print("{}\n", object.dump(2));
}

std::string or_unknown(const std::string& text) { return text.empty() ? "unknown" : text; }

void print_text(const DoctorSettings& s) {
  const Environment e = environment();
  const auto line = [](const char* what, const std::string& value) {
    fmt::print("{:<13} {}\n", what, value);
  };
  line("parsimony", e.version + (e.git_commit.empty() ? "" : " (" + e.git_commit + ")"));
  line("compiler", e.compiler + ", " + e.build);
  line("SIMD", e.simd + " in the kernels");
  line("CPU", fmt::format("{}; {}", or_unknown(e.cpu), fmt::join(e.cpu_features, " ")));
  line("BLAS", e.blas + "; kernels for " + or_unknown(e.blas_core));
  const bool avx512 =
      std::find(e.cpu_features.begin(), e.cpu_features.end(), "avx512f") != e.cpu_features.end();
  if (e.blas_core == "Prescott" && avx512) {
    line("",
         "it does not know this CPU and runs its oldest kernels: OPENBLAS_CORETYPE=SkylakeX in "
         "the environment makes SVD, QR and builds without our own products several times "
         "faster");
  }
  line("threads", std::to_string(e.threads));
  line("system", e.os);
  const char* language = nullptr;
  for (const char* name : {"LC_ALL", "LC_NUMERIC", "LANG"}) {
    const char* value = std::getenv(name);
    if (language == nullptr && value != nullptr && *value != '\0') language = value;
  }
  line("locale", fmt::format("{} outside; numbers are read and written with '{}'",
                             language != nullptr ? language : "not set", e.decimal_point));
  const std::string gnuplot = gnuplot_version();
  line("gnuplot",
       gnuplot.empty() ? "missing: figures get no pictures; install gnuplot-nox" : gnuplot);
  line("Unicode", unicode_version() + " in the tokenizer");
  line("determinism", determinism);
  fmt::print("data sets\n");
  for (const DataSet& set : data_sets) {
    const std::string path = find_data_file(s.data, set.file);
    fmt::print("  {:<22} {}\n", set.name,
               path.empty() ? fmt::format("missing ({})", set.file) : path);
  }
}

}  // namespace

Command doctor_command() {
  auto s = std::make_shared<DoctorSettings>();
  Command c;
  c.name = "doctor";
  c.summary = "Show versions, BLAS, threads, SIMD, gnuplot and data sets found";
  c.examples = {"parsimony doctor", "parsimony doctor --json --data /srv/data"};
  c.options = {data_option(&s->data), json_option(&s->json)};
  c.action = [s] {
    check_data_folder(s->data);
    if (s->json) {
      print_json(*s);
    } else {
      print_text(*s);
    }
    return 0;
  };
  return c;
}

}  // namespace parsimony::cli
