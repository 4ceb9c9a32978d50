// Fewer numbers than LoRA of rank 1: NOLA over its count of bases, with LoRA-XS and VeRA where they
// can be as small.
#include <parsimony/error.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "rivals.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

class NolaBudget : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"nola-budget",
            "from rank-1 LoRA's numbers down to a twentieth: what NOLA, LoRA-XS and VeRA keep",
            "NOLA's claim of any count of numbers below rank-1 LoRA's (methods 3.4)",
            {{"smoke", 0.02}, {"quick", 0.15}, {"paper", 30}}};
  }

  std::vector<ClaimStatement> claims() const override {
    return {
        {"NB1", "NOLA with a twentieth of rank-1 LoRA's numbers keeps its quality", "methods 3.4",
         "mean of the metric at the smallest share at least LoRA's of rank 1 - .02",
         "20 x smaller than rank-1 LoRA without loss (LLaMA-2 70B)"},
        {"NB2", "The more bases, the better NOLA fits, at a fixed rank", "methods 3.4",
         "mean training loss of the last fifth of the steps falls from each count of bases to the "
         "next larger",
         "quality rises with k"},
        {"NB3", "The more bases, the better NOLA's metric", "methods 3.4",
         "mean paired difference of the metric, most against fewest bases, > 0",
         "quality rises with k"},
        {"NB4", "A saved NOLA adapter is its coefficients and a seed", "methods 3.4",
         "bytes of its folder at most 4 x coefficients + 1 KiB at every count, and the adapter "
         "that "
         "is read back has the same ΔW to the bit",
         "a file of 2k numbers and a seed rebuilds ΔW"}};
  }

  void declare(Config& c) const override {
    declare_rivals(c, {"sst2", 5, 40, "all-linear"});
    c.declare("samples", index_t{256}, "training examples, with replacement");
    c.declare("shares", std::vector<double>{0.05, 0.2, 1},
              "budgets, as shares of rank-1 LoRA's numbers, ascending");
  }

  void preset(const std::string& name, Config& c) const override {
    preset_language(name, c, 10, 500);
    if (name == "smoke") {
      c.preset("samples", index_t{8});
      c.preset("seeds", index_t{1});
      c.preset("shares", std::vector<double>{0.1, 1});
      c.preset("targets", std::string("query-value"));
      c.preset("dev_examples", index_t{16});
    }
  }

  void run(Run& run) const override;
};

/// A method at a budget, with its runs over the seeds.
struct Point {
  Rival rival;
  index_t numbers = 0;
  std::vector<double> score, loss, bytes;
  bool same = true;  // ΔW, read back from its folder
};

std::vector<double> shares_of(const Config& c) {
  std::vector<double> shares = c.reals("shares");
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (!(shares[i] > 0 && shares[i] <= 1) || (i > 0 && shares[i] <= shares[i - 1])) {
      throw ValueError("shares: expected ascending numbers above 0, at most 1; got " +
                       number(shares[i]));
    }
  }
  if (shares.empty()) throw ValueError("shares: expected at least one");
  return shares;
}

/// Rank-1 LoRA, then NOLA at every share, then the others where they come within 15 % of it.
std::vector<Point> points_of(const Rivals& rivals, const std::vector<double>& shares) {
  std::vector<Point> points;
  Rival lora = rivals.next_to("lora", 1);
  const index_t most = rivals.numbers(lora);
  points.push_back({lora, most, {}, {}, {}, true});
  for (const std::string name : {"nola", "lora-xs", "vera"}) {
    for (const double share : shares) {
      const double budget = share * static_cast<double>(most);
      const Rival rival = rivals.next_to(name, std::llround(budget));
      const index_t numbers = rivals.numbers(rival);
      const bool near = std::abs(static_cast<double>(numbers) / budget - 1) <= 0.15;
      const bool again = points.back().rival.name == name && points.back().numbers == numbers;
      if (name == "nola" ? !again : near && !again) {
        points.push_back({rival, numbers, {}, {}, {}, true});
      }
    }
  }
  return points;
}

std::vector<const Point*> of(const std::vector<Point>& points, const std::string& name) {
  std::vector<const Point*> found;
  for (const Point& p : points) {
    if (p.rival.name == name) found.push_back(&p);
  }
  return found;
}

double bound(index_t numbers) { return 4.0 * static_cast<double>(numbers) + 1024; }

void draw(Run& run, const LanguageLab& lab, const EncodedTask& task,
          const std::vector<Point>& points) {
  Figure f;
  f.name = "nola_budget";
  f.title = "Below rank-1 LoRA: " + lab.task_title();
  f.caption =
      "After training on few examples with ever fewer numbers; means over seeds, error bars of one "
      "standard error, methods of one budget side by side. Middle: training loss, last fifth of "
      "the steps. Right: bytes of the saved adapter's folder, and NOLA's bound of 4 bytes a "
      "coefficient + 1 KiB.";
  for (const int which : {0, 1, 2}) {
    Panel& p = f.panel(which == 0 ? "metric" : which == 1 ? "fit" : "size");
    p.x_label = "trained numbers";
    p.y_label = which == 0 ? metric_label(task) : which == 1 ? "training loss" : "bytes saved";
    p.log_x = true;
    p.log_y = which == 2;
    if (which == 1) p.legend = Panel::none;
    int color = 0;
    for (const std::string name : {"nola", "lora-xs", "vera", "lora"}) {
      std::vector<double> x, y, low, high;
      std::string label;
      for (const Point* point : of(points, name)) {
        const Spread values = spread(which == 0   ? point->score
                                     : which == 1 ? point->loss
                                                  : point->bytes);
        const double error = values.count > 1
                                 ? values.sample_std / std::sqrt(static_cast<double>(values.count))
                                 : 0.0;
        // Points that agree do not hide each other, where every method has one at the same budget.
        // LoRA-XS has somewhat fewer numbers than NOLA.
        constexpr double places[] = {-0.5, -1.5, 0.5, 1.5};
        const double beside = which == 2 ? 1.0 : std::pow(1.06, places[color]);
        x.push_back(beside * static_cast<double>(point->numbers));
        y.push_back(values.mean);
        low.push_back(values.mean - error);
        high.push_back(values.mean + error);
        label = name == "lora" ? "LoRA, rank 1" : point->rival.label;
      }
      if (x.empty()) continue;
      if (which == 2) {
        if (name == "nola") {
          std::vector<double> limits;
          for (const Point* point : of(points, name)) limits.push_back(bound(point->numbers));
          p.dashed("NOLA's bound", x, limits).color = 6;
        }
        p.points("", x, y).color = color;
        ++color;
        continue;
      }
      Series& s = p.points(label, x, y);
      s.low = low;
      s.high = high;
      s.color = color++;
    }
  }
  run.figure(f);
}

void judge_points(Run& run, LanguageLab& lab, const std::vector<Point>& points) {
  const Point& lora = points.front();
  const std::vector<const Point*> nola = of(points, "nola");
  std::string scores, losses, bytes;
  bool falls = true, small = true;
  for (const Point* p : nola) {
    const std::string comma = p == nola.front() ? "" : ", ";
    const std::string count = comma + std::to_string(p->numbers) + ": ";
    const double most = *std::max_element(p->bytes.begin(), p->bytes.end());
    scores += count + spread_text(p->score);
    losses += count + number(mean_of(p->loss));
    bytes += count + number(most) + " (bound " + number(bound(p->numbers)) + ")";
    small = small && most <= bound(p->numbers) && p->same;
  }
  for (std::size_t i = 1; i < nola.size(); ++i) {
    falls = falls && mean_of(nola[i]->loss) < mean_of(nola[i - 1]->loss);
  }
  const Point& least = *nola.front();
  const Point& most = *nola.back();
  lab.judge("NB1", mean_of(least.score) >= mean_of(lora.score) - 0.02,
            std::to_string(least.numbers) + " of " + std::to_string(lora.numbers) +
                " numbers: " + paired_text(least.score, lora.score) + "; LoRA " +
                spread_text(lora.score) + "; NOLA " + scores);
  lab.judge_anywhere("NB2", falls,
                     lab.task_title() + ": " + losses + "; LoRA " + number(mean_of(lora.loss)));
  lab.judge("NB3", mean_of(most.score) > mean_of(least.score),
            paired_text(most.score, least.score) + "; " + scores);
  run.claim("NB4", small, bytes);
}

void NolaBudget::run(Run& run) const {
  const Config& c = run.config();
  LanguageLab lab(run);
  const EncodedTask& task = lab.task();
  std::vector<Point> points = points_of(Rivals(c, lab), shares_of(c));
  const auto seeds = lab.seeds();
  const std::string folder = run.folder() + "/saved/";
  std::vector<LanguageJob> jobs;
  for (const Point& point : points) {
    for (const std::uint64_t seed : seeds) {
      const std::string name =
          point.rival.name + " " + std::to_string(point.numbers) + " seed" + std::to_string(seed);
      const FinetuneOptions o = with_run(point.rival, c.integer("samples", 1, 1 << 30), seed);
      jobs.push_back(
          {name, &task, o, {}, [&, o, own = folder + name](Stage& stage, Model<float>& model) {
             const SavedAdapters saved(model, o, own);
             stage.keep("bytes", static_cast<double>(saved.bytes()));
             stage.keep("same", saved.come_back(*lab.base().classifier(task.task)));
           }});
    }
  }
  const auto records = lab.run("runs", jobs);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);

  std::size_t at = 0;
  for (Point& point : points) {
    for (std::size_t s = 0; s < seeds.size(); ++s, ++at) {
      point.score.push_back(records[at]->last(task.task.metric));
      point.loss.push_back(late_loss(*records[at], 0.2));
      point.bytes.push_back(records[at]->scalar("bytes"));
      point.same = point.same && records[at]->scalar("same") == 1;
    }
    const std::string name = point.rival.name + "." + std::to_string(point.numbers);
    run.array("score." + name, as_matrix({point.score}));
    run.array("train_loss." + name, as_matrix({point.loss}));
    run.array("bytes." + name, as_matrix({point.bytes}));
  }
  judge_points(run, lab, points);
  draw(run, lab, task, points);
}

}  // namespace
PARSIMONY_EXPERIMENT(111, NolaBudget)
}  // namespace parsimony::lab
