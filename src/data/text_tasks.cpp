// The tasks that have a name: where their files are, what their columns mean, and how they are
// split where the published split could not be had.
#include <parsimony/text_tasks.hpp>

#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "data/text_labels.hpp"

namespace parsimony {

namespace {

using Header = TextFormat::Header;
using Examples = std::vector<TextExample>;

/// Files of a task and how they are read.
struct Source {
  TextTask task;
  std::vector<std::string> codes;  // what the files call task.labels
  Header header = Header::yes;
  std::vector<std::string> columns;  // text, text, label
  bool extra_columns = false;
  // The files, and what becomes of their examples.
  std::vector<std::string> files;
  std::function<void(std::vector<Examples>&, TextSplits&)> split;
  const char* last = "dev";  // the split that the second of two files is

  bool needs(std::size_t file, const std::string& wanted) const {
    return wanted.empty() || files.size() == 1 || (file == 1) == (wanted == last);
  }
};

TextTask classes(const char* name, bool pair, std::vector<std::string> labels, const char* metric,
                 std::vector<std::string> others = {}) {
  TextTask task;
  task.name = name;
  task.pair = pair;
  task.labels = std::move(labels);
  task.metric = metric;
  task.other_metrics = std::move(others);
  return task;
}

TextTask similarity(const char* name, double low, double high) {
  TextTask task;
  task.name = name;
  task.pair = true;
  task.metric = "pearson";
  task.other_metrics = {"spearman"};
  task.low = low;
  task.high = high;
  return task;
}

void train_and_dev(std::vector<Examples>& files, TextSplits& splits) {
  splits.train = std::move(files[0]);
  splits.dev = std::move(files[1]);
}

/// Moves examples [first, last) out.
Examples part(Examples& all, std::size_t first, std::size_t last) {
  first = std::min(first, all.size());
  last = std::min(last, all.size());
  const auto at = [&all](std::size_t i) {
    return std::make_move_iterator(all.begin() + static_cast<std::ptrdiff_t>(i));
  };
  return Examples(at(first), at(last));
}

// GLUE divides MRPC's training file by a list of ids that is not to be had; as many are held out.
void last_408(std::vector<Examples>& files, TextSplits& splits) {
  Examples& all = files[0];
  const std::size_t cut = all.size() - std::min<std::size_t>(408, all.size());
  splits.train = part(all, 0, cut);
  splits.dev = part(all, cut, all.size());
  splits.test = std::move(files[1]);
}

// Only QNLI's dev file is to be had. A fifth of its questions, chosen by a hash of their words, is
// held out, so that no question is on both sides.
void by_question(std::vector<Examples>& files, TextSplits& splits) {
  const Rng rng = Rng(0).split("qnli");
  for (TextExample& example : files[0]) {
    const bool held_out = rng.split(example.first).below(5) == 0;
    (held_out ? splits.dev : splits.train).push_back(std::move(example));
  }
}

// SICK's parts follow each other in its file.
void sick_parts(std::vector<Examples>& files, TextSplits& splits) {
  Examples& all = files[0];
  splits.train = part(all, 0, 4500);
  splits.dev = part(all, 4500, 5000);
  splits.test = part(all, 5000, all.size());
}

void strip_trailing_blanks(std::vector<Examples>& files, TextSplits& splits) {
  for (Examples& examples : files) {
    for (TextExample& example : examples) {
      while (!example.first.empty() && example.first.back() == ' ') example.first.pop_back();
    }
  }
  train_and_dev(files, splits);
}

const std::vector<Source>& sources() {
  static const std::vector<std::string> entailment = {"entailment", "not_entailment"};
  static const std::vector<std::string> digits = {"0", "1"};
  static const std::vector<Source> all = {
      // Quotes are literal in all of them. STS-B has 7 or 9 columns and ".csv" files that are TSV.
      {similarity("stsb", 0, 5),
       {},
       Header::no,
       {"6", "7", "5"},
       true,
       {"stsb/sts-train.csv", "stsb/sts-dev.csv"},
       train_and_dev},
      // Every sentence of SST-2 ends with a blank.
      {classes("sst2", false, {"negative", "positive"}, "accuracy"),
       digits,
       Header::yes,
       {"sentence", "label"},
       false,
       {"sst2/train.tsv", "sst2/dev.tsv"},
       strip_trailing_blanks},
      // The lower-cased variant; of dev, only the half that is out of domain.
      {classes("cola", false, {"unacceptable", "acceptable"}, "matthews", {"accuracy"}),
       digits,
       Header::no,
       {"1", "2"},
       false,
       {"cola/train.tsv", "cola/dev-out-of-domain.tsv"},
       train_and_dev},
      {classes("rte", true, entailment, "accuracy"),
       entailment,
       Header::yes,
       {"sentence1", "sentence2", "label"},
       false,
       {"rte/train.tsv", "rte/dev.tsv"},
       train_and_dev},
      {classes("mrpc", true, {"not_equivalent", "equivalent"}, "accuracy", {"f1"}),
       digits,
       Header::yes,
       {"#1 String", "#2 String", "Quality"},
       false,
       {"mrpc/msr_paraphrase_train.txt", "mrpc/msr_paraphrase_test.txt"},
       last_408,
       "test"},
      {classes("qnli", true, entailment, "accuracy"),
       entailment,
       Header::yes,
       {"question", "sentence", "label"},
       false,
       {"qnli/dev.tsv"},
       by_question},
      {classes("sick", true, {"entailment", "neutral", "contradiction"}, "accuracy"),
       {"ENTAILMENT", "NEUTRAL", "CONTRADICTION"},
       Header::yes,
       {"sentence_A", "sentence_B", "entailment_judgment"},
       false,
       {"sick/SICK.txt"},
       sick_parts},
      {similarity("sick-r", 1, 5),
       {},
       Header::yes,
       {"sentence_A", "sentence_B", "relatedness_score"},
       false,
       {"sick/SICK.txt"},
       sick_parts},
  };
  return all;
}

/// The task of that name, or null for "synthetic".
const Source* source_of(const std::string& name) {
  for (const Source& source : sources()) {
    if (source.task.name == name) return &source;
  }
  if (name == "synthetic") return nullptr;
  const std::string near = nearest_name(name, text_task_names());
  throw ValueError(fmt::format("task: there is no '{}'{}; there are {}", printable(name),
                               near.empty() ? "" : fmt::format(", did you mean '{}'?", near),
                               fmt::join(text_task_names(), ", ")));
}

}  // namespace

const std::vector<std::string>& text_task_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Source& source : sources()) out.push_back(source.task.name);
    out.push_back("synthetic");
    return out;
  }();
  return names;
}

std::vector<std::string> text_task_files(const std::string& name) {
  const Source* source = source_of(name);
  return source != nullptr ? source->files : std::vector<std::string>();
}

TextSplits load_text_task(const std::string& name, const TextTaskOptions& options) {
  const Source* source = source_of(name);
  if (source == nullptr) return synthetic_pairs(options.synthetic);
  TextFormat format;
  format.kind = TextFormat::Kind::tsv;
  format.header = source->header;
  format.columns = source->columns;
  format.extra_columns = source->extra_columns;
  std::vector<Examples> files(source->files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (!source->needs(i, options.split)) continue;
    const std::string path = data_file(
        options.data_dir, source->files[i],
        fmt::format("task '{}' reads it; name the folder with --data DIR or PARSIMONY_DATA; "
                    "scripts/get_data.sh --help says where data sets come from",
                    name));
    files[i] = detail::examples_of(source->task, source->codes, read_text_table(path, format));
  }
  TextSplits splits;
  splits.task = source->task;
  source->split(files, splits);
  return splits;
}

}  // namespace parsimony
