// Every adapter method on few examples: at one budget of trained numbers and at its authors'
// settings, paired over seeds with vanilla LoRA.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>

#include <algorithm>

#include "rivals.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class RivalsFewshot : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"rivals-fewshot",
            "every adapter method on few examples, at one budget and as published",
            "few-shot comparison of the methods that Deep LoRA is compared with (spec 2.7, 2.11)",
            {{"smoke", 0.03}, {"quick", 0.35}, {"paper", 200}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"RV1", "A method's count of trained numbers is its formula's, and a budget can be met",
         "methods 1-6, 9",
         "counts of all trained models equal the formulas; at the budget all methods within 30 % "
         "of "
         "vanilla LoRA's, those that cannot grow to it (VeRA: its rank is at most a layer's side) "
         "excepted",
         "r(m+n), r(m+n)+m, r², r+m, 2k, about r(m+n)"},
        {"RV2", "At vanilla LoRA's budget Deep LoRA is at least as good, with few examples",
         "spec 2.7", "mean paired difference over all n, tasks and seeds >= 0",
         "+.069, +.016, +.014 at n = 16, 64, 256 (STS-B)"},
        {"RV3", "LoRA-XS, VeRA and NOLA keep LoRA's quality with a fraction of its numbers",
         "methods 3.4, 4, 9",
         "as published: fewer numbers than LoRA, and mean over all runs at least LoRA's - .02, "
         "each",
         "competitive with LoRA, with 5 to 100 times fewer"},
        {"RV4", "OLoRA and PiSSA learn faster than LoRA at first", "methods 5, 9",
         "at the budget, each at its tuned rate: mean training loss of the first quarter of the "
         "steps below LoRA's, both",
         "OLoRA 3.182 against 3.207 nats after 100 steps on a tiny model, PiSSA not better there"},
        {"RV5", "On an ordinary task MoRA and LoRA tie", "methods 6.4",
         "at the budget |mean paired difference| <= .02 over all runs",
         "64.2 against 64.6 (GSM8K, r = 8)"},
        {"RV6", "DoRA is better than LoRA at a low rank", "methods 9",
         "at the budget: mean paired difference over all runs > 0", "no number for this scale"},
        {"RV7", "LoRA+ is better than LoRA at the same cost", "methods 9",
         "at the budget, both at their tuned rates: mean paired difference over all runs > 0",
         "no number for this scale"},
        {"RV8", "The comparison can tell: what adapters learn, the head alone does not", "control",
         "the best method's mean at the budget above the head's, paired t >= 2",
         "not in the papers"}};
  }

  void declare(Config& c) const override {
    declare_rivals(c, {"", 5, 16, "all-linear"});
    c.declare("tasks", std::string("sst2"),
              "tasks; without any of their data the generated pairs stand in");
    c.declare("samples", std::vector<index_t>{16, 64, 256},
              "training examples, with replacement; one to three sizes");
    c.declare("published_samples", std::vector<index_t>{64},
              "those of them that the methods' published settings are run on too");
    c.preset("dev_examples", index_t{200});
    c.declare("budget_rank", index_t{2},
              "the budget: as many numbers as vanilla LoRA of this rank");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 10, 500);
    if (name == "smoke") {
      c.preset("steps", index_t{1});
      c.preset("seeds", index_t{1});
      c.preset("samples", std::vector<index_t>{8});
      c.preset("published_samples", std::vector<index_t>{8});
      c.preset("dev_examples", index_t{16});
      c.preset("targets", std::string("query-value"));
    } else if (name == "paper") {
      c.preset("tasks", std::string("sst2,rte,sick,stsb"));
      c.preset("published_samples", std::vector<index_t>{16, 64, 256});
      c.preset("budget_rank", index_t{8});
    }
  }

  void run(Run& run) const override;
};

/// A method under a setting at one task and size, with what its runs came to.
struct Cell {
  std::string setting, task;
  index_t samples = 0;
  Rival rival;
  std::vector<double> score, early, late;  // metric; training loss, first and last quarter
  index_t numbers = 0;                     // trained
};

class Table {
 public:
  void add(Cell cell) { cells_.push_back(std::move(cell)); }
  std::vector<Cell>& cells() { return cells_; }
  const std::vector<Cell>& cells() const { return cells_; }

  /// Scores (or early losses) of a method over all tasks, sizes (or one) and seeds, in one order.
  std::vector<double> all(const std::string& setting, const std::string& name,
                          std::vector<double> Cell::*what = &Cell::score, index_t n = 0) const {
    std::vector<double> out;
    for (const Cell& c : cells_) {
      if (c.setting != setting || c.rival.name != name || (n > 0 && c.samples != n)) continue;
      out.insert(out.end(), (c.*what).begin(), (c.*what).end());
    }
    return out;
  }
  index_t numbers(const std::string& setting, const std::string& name) const {
    for (const Cell& c : cells_) {
      if (c.setting == setting && c.rival.name == name) return c.numbers;
    }
    throw ValueError("no method '" + name + "' in the table");
  }
  /// What a cell is paired with: vanilla LoRA under the same setting, at the same task and size.
  const Cell& reference(const Cell& cell) const {
    for (const Cell& c : cells_) {
      if (c.rival.name == "vanilla" && c.setting == cell.setting && c.task == cell.task &&
          c.samples == cell.samples) {
        return c;
      }
    }
    throw ValueError("the table has no vanilla LoRA");
  }

 private:
  std::vector<Cell> cells_;
};

std::string knob_text(const Rival& rival) {
  if (!has_adapters(rival.options)) return "";
  const Config c = adapter_config(rival.options.adapter);
  std::string text = "rank " + std::to_string(c.integer("rank"));
  if (c.has("bases")) text += " bases " + std::to_string(c.integer("bases"));
  if (c.has("alpha") && (!c.has("init") || c.text("init") == "peft")) {
    text += " alpha " + number(c.real("alpha"));
  }
  return text;
}

void write_table(const std::string& path, const Table& table) {
  CsvWriter csv(path,
                {"setting", "task", "n", "method", "options", "trained_numbers", "learning_rate",
                 "mean", "std", "difference", "t", "p", "wins", "ties", "pairs", "train_loss"});
  for (const Cell& c : table.cells()) {
    const Spread s = spread(c.score);
    const PairedStatistics d = paired_statistics(c.score, table.reference(c).score);
    const bool one = d.difference.count == 1;  // no statistic
    csv.row({c.setting, c.task, c.samples, c.rival.label, knob_text(c.rival), c.numbers,
             c.rival.options.learning_rate, s.mean, s.population_std, d.difference.mean,
             one ? CsvCell("") : CsvCell(d.t), one ? CsvCell("") : CsvCell(d.p), d.wins, d.ties,
             d.difference.count, mean_of(c.late)});
  }
  csv.finish();
}

void look(Series& series, std::size_t index) {
  series.color = static_cast<int>(index % 8);
  series.marker = static_cast<int>((index + 3 * (index / 8)) % 8);
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// The metric, or the training loss, against trained numbers: a panel a size.
void draw_points(Run& run, const std::vector<std::string>& tasks, const std::vector<index_t>& sizes,
                 const Table& table, const std::vector<Rival>& methods, bool loss) {
  const auto what = loss ? &Cell::late : &Cell::score;
  std::vector<double> errors;
  for (const Cell& c : table.cells()) {
    const Spread s = spread(c.*what);
    errors.push_back(s.population_std / std::sqrt(static_cast<double>(s.count)));
  }
  Figure f;
  f.name = loss ? "loss_vs_parameters" : "accuracy_vs_parameters";
  f.title = loss ? "Training loss against trained numbers" : "What trained numbers buy";
  f.order = loss ? 2 : 0;
  f.caption =
      std::string(loss ? "Mean training loss of the last quarter of the steps ("
                       : "Mean of the metric on dev (") +
      joined(tasks) +
      ") over seeds against the count of trained numbers. On the dashed line, the budget, "
      "each method has its tuned rate; elsewhere it is at its authors' settings. The legend "
      "is for all panels. A standard error of the mean is " +
      number(median_of(errors)) + " (median over points); table.csv has all of them.";
  const std::size_t part = (methods.size() + sizes.size() - 1) / sizes.size();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Panel& p = f.panel("n = " + std::to_string(sizes[i]));
    p.x_label = "trained numbers";
    p.y_label = loss ? "training loss" : "metric on dev";
    p.log_x = true;
    p.legend = Panel::below;
    for (std::size_t k = 0; k < methods.size(); ++k) {
      std::vector<std::pair<double, double>> points;
      for (const std::string setting : {"budget", "published"}) {
        const auto values = table.all(setting, methods[k].name, what, sizes[i]);
        if (values.empty()) continue;
        points.emplace_back(static_cast<double>(table.numbers(setting, methods[k].name)),
                            mean_of(values));
      }
      std::sort(points.begin(), points.end());
      std::vector<double> x, y;
      for (const auto& [numbers, mean] : points) {
        x.push_back(numbers);
        y.push_back(mean);
      }
      look(p.points(k / part == i ? methods[k].label : "", x, y), k);
    }
    p.vertical(static_cast<double>(table.numbers("budget", "vanilla")));
  }
  run.figure(f);
}

/// Paired differences over vanilla LoRA at the budget, a panel a size.
void draw_differences(Run& run, const std::vector<std::string>& tasks,
                      const std::vector<index_t>& sizes, const Table& table,
                      const std::vector<Rival>& methods) {
  Figure f;
  f.name = "differences";
  f.title = "Over vanilla LoRA at its budget";
  f.order = 1;
  f.caption = "Mean paired difference of the metric on dev (" + joined(tasks) +
              ") over vanilla LoRA, same seeds, with its standard error. All methods have about as "
              "many trained numbers, VeRA fewer; the head and all weights are beside them.";
  for (const index_t n : sizes) {
    Panel& p = f.panel("n = " + std::to_string(n));
    p.y_label = "difference over vanilla LoRA";
    p.legend = Panel::none;
    const auto vanilla = table.all("budget", "vanilla", &Cell::score, n);
    std::vector<double> x, mean, low, high;
    for (const Rival& rival : methods) {
      if (rival.name == "vanilla") continue;
      const PairedStatistics s =
          paired_statistics(table.all("budget", rival.name, &Cell::score, n), vanilla);
      const double error =
          s.difference.count > 1
              ? s.difference.sample_std / std::sqrt(static_cast<double>(s.difference.count))
              : 0.0;
      p.categories.push_back(rival.label);
      x.push_back(static_cast<double>(x.size()));
      mean.push_back(s.difference.mean);
      low.push_back(s.difference.mean - error);
      high.push_back(s.difference.mean + error);
    }
    Series& bars = p.bars("", x, mean);
    bars.low = low;
    bars.high = high;
    p.horizontal(0);
  }
  run.figure(f);
}

/// Every cell's runs, in order.
std::vector<LanguageJob> jobs_of(LanguageLab& lab, const Table& table) {
  std::vector<LanguageJob> jobs;
  for (const Cell& cell : table.cells()) {
    for (const std::uint64_t seed : lab.seeds()) {
      jobs.push_back({cell.task + " n" + std::to_string(cell.samples) + " " + cell.setting + " " +
                          cell.rival.name + " seed" + std::to_string(seed),
                      &lab.task(cell.task),
                      with_run(cell.rival, cell.samples, seed),
                      {},
                      {}});
    }
  }
  return jobs;
}

/// Judges the claims about the methods' quality; `judge` records one.
template <class Judge>
void judge_quality(const Table& table, const Judge& judge) {
  const auto against = [&](const std::string& id, const std::string& name, const std::string& other,
                           const auto& holds) {
    const auto a = table.all("budget", name);
    const auto b = table.all("budget", other);
    judge(id, holds(mean_of(a) - mean_of(b)),
          name + " " + spread_text(a) + ", " + other + " " + spread_text(b) + ": " +
              paired_text(a, b));
  };
  against("RV2", "deep", "vanilla", [](double gain) { return gain >= 0; });
  against("RV5", "mora", "lora", [](double gain) { return std::abs(gain) <= 0.02; });
  against("RV6", "dora", "lora", [](double gain) { return gain > 0; });
  against("RV7", "lora-plus", "lora", [](double gain) { return gain > 0; });

  const auto slow = table.all("budget", "lora", &Cell::early);
  bool faster = true;
  std::string measured = "LoRA " + spread_text(slow);
  for (const std::string name : {"olora", "pissa"}) {
    const auto loss = table.all("budget", name, &Cell::early);
    faster = faster && mean_of(loss) < mean_of(slow);
    measured += "; " + name + " " + spread_text(loss) + ", " + paired_text(loss, slow);
  }
  judge("RV4", faster, measured);

  const auto head = table.all("budget", "head");
  std::string best;
  std::vector<double> top;
  for (const Cell& c : table.cells()) {
    if (c.setting != "budget" || !has_adapters(c.rival.options)) continue;
    const auto scores = table.all("budget", c.rival.name);
    if (!top.empty() && mean_of(scores) <= mean_of(top)) continue;
    best = c.rival.name;
    top = scores;
  }
  judge("RV8", paired_statistics(top, head).t >= 2,
        best + " " + spread_text(top) + ", head " + spread_text(head) + ": " +
            paired_text(top, head));
}

/// What the small methods keep at their authors' settings.
template <class Judge>
void judge_published(const Table& table, const Judge& judge) {
  const auto lora = table.all("published", "lora");
  const index_t lora_numbers = table.numbers("published", "lora");
  bool kept = true;
  std::string measured =
      "LoRA " + spread_text(lora) + " with " + std::to_string(lora_numbers) + " numbers";
  for (const std::string name : {"lora-xs", "vera", "nola"}) {
    const auto scores = table.all("published", name);
    const index_t numbers = table.numbers("published", name);
    kept = kept && numbers < lora_numbers && mean_of(scores) >= mean_of(lora) - 0.02;
    measured += "; " + name + " " + spread_text(scores) + " with " + std::to_string(numbers) +
                ", " + paired_text(scores, lora);
  }
  judge("RV3", kept, measured);
}

bool contains(const std::vector<index_t>& values, index_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

void RivalsFewshot::run(Run& run) const {
  const Config& c = run.config();
  const std::vector<index_t> sizes = ascending_integers(c, "samples", 1, 1 << 30, "examples");
  if (sizes.size() > 3) throw ValueError("samples: expected one to three sizes");
  LanguageLab lab(run);
  const Rivals rivals(c, lab);
  const TaskChoice tasks = lab.available(listed_names(c, "tasks"));

  std::vector<Rival> at_budget = rivals.at_budget(c.integer("budget_rank", 1, 1 << 20));
  for (const Rival& anchor : rivals.anchors()) at_budget.push_back(anchor);
  const std::vector<Rival> published = rivals.as_published();
  Table table;
  for (const std::string& task : tasks.found) {
    for (const index_t n : sizes) {
      for (const Rival& r : at_budget) table.add({"budget", task, n, r, {}, {}, {}, 0});
      if (!contains(c.integers("published_samples"), n)) continue;
      for (const Rival& r : published) table.add({"published", task, n, r, {}, {}, {}, 0});
    }
  }
  const std::vector<LanguageJob> jobs = jobs_of(lab, table);
  const auto records = lab.run("runs", jobs);

  bool counted = true;
  std::size_t at = 0;
  for (Cell& cell : table.cells()) {
    const std::string& metric = lab.task(cell.task).task.metric;
    for (std::size_t s = 0; s < lab.seeds().size(); ++s, ++at) {
      cell.score.push_back(records[at]->last(metric));
      cell.early.push_back(early_loss(*records[at], 0.25));
      cell.late.push_back(late_loss(*records[at], 0.25));
      cell.numbers = static_cast<index_t>(records[at]->scalar("parameters"));
    }
    counted = counted &&
              (!has_adapters(cell.rival.options) || rivals.numbers(cell.rival) == cell.numbers);
    run.array("score." + cell.setting + "." + cell.rival.name + "." + cell.task + ".n" +
                  std::to_string(cell.samples),
              as_matrix({cell.score}));
  }
  write_table(run.folder() + "/table.csv", table);

  const auto budget = static_cast<double>(table.numbers("budget", "vanilla"));
  std::string counts;
  for (const Rival& r : at_budget) {
    const index_t numbers = table.numbers("budget", r.name);
    counts += (counts.empty() ? "" : ", ") + r.name + " " + std::to_string(numbers);
    if (!has_adapters(r.options) || r.name == "vera") continue;
    counted = counted && std::abs(static_cast<double>(numbers) / budget - 1) <= 0.3;
  }
  run.claim("RV1", counted, lab.base().name() + ", " + c.text("targets") + ": " + counts);
  const auto judge = [&](const std::string& id, bool holds, const std::string& measured) {
    if (tasks.missing.empty()) {
      lab.judge_anywhere(id, holds, measured);
    } else {
      run.claim_not_run(
          id, "no data for " + tasks.missing + "; on " + tasks.found.front() + ": " + measured);
    }
  };
  judge_quality(table, judge);
  if (table.all("published", "lora").empty()) {
    run.claim_not_run("RV3", "no size of published_samples is among samples");
  } else {
    judge_published(table, judge);
  }
  draw_points(run, tasks.found, sizes, table, at_budget, false);
  draw_differences(run, tasks.found, sizes, table, at_budget);
  draw_points(run, tasks.found, sizes, table, at_budget, true);
}

}  // namespace
PARSIMONY_EXPERIMENT(110, RivalsFewshot)
}  // namespace parsimony::lab
