// PC-LoRA (arXiv 2406.09117) on a BERT and a ViT: how much is left of a trained model when the
// weights of its blocks have decayed to low-rank pairs, against the ways one would rather expect to
// work: removing the weights at once, never having had them, no distillation.
//
// The models that are compressed are trained first, in stages of their own, and kept in the run's
// folder (teacher-bert, teacher-vit), where `parsimony compress` takes them too. Every number is of
// the final form, pairs alone.
#include <parsimony/compress.hpp>
#include <parsimony/error.hpp>
#include <parsimony/pc_lora.hpp>

#include <chrono>
#include <limits>

#include "lm_support.hpp"
#include "pc_lora_models.hpp"
#include "trials.hpp"

namespace parsimony::lab {
namespace {

constexpr const char* every_control =
    "linear,1-cosine,identity,no features,task alone,no decay,fresh";

class PcLoraCompression : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"pc-lora",
            "weights that decay to low-rank pairs: accuracy against compression, BERT and ViT",
            "PC-LoRA's compression of ViT-B and BERT (arXiv 2406.09117)",
            {{"smoke", 0.03}, {"quick", 0.65}, {"paper", 25}}};
  }

  std::vector<ClaimStatement> claims() const override {
    const std::string source = "arXiv 2406.09117";
    return {
        {"PL1", "A BERT loses nine tenths of its blocks' weights and little accuracy", source,
         "at the run's ratio: >= 90 % of the weights of the blocks' linear layers removed, "
         "mean accuracy over seeds at most .03 below the model's",
         "BERT, rank 32: 93.42 % of the parameters, 84.2 % of the FLOPs"},
        {"PL2", "So does a ViT", source, "as PL1",
         "ViT-B, rank 32: 94.36 % of the parameters, 89.1 % of the FLOPs"},
        {"PL3", "Weights that decay end better than weights that are removed at once", source,
         "accuracy paired by seed against schedule identity, BERT and ViT: mean difference > 0 for "
         "sine, linear and 1-cosine, t >= 2 for sine",
         "stated without a number"},
        {"PL4", "and better than the same pairs trained from random weights", source,
         "accuracy of sine paired by seed against the same model with fresh weights throughout, on "
         "the task alone, as many updates: mean difference > 0 and t >= 2, BERT and ViT",
         "stated without a number"},
        {"PL4b", "even where only the pairs are random and the teacher is the same", source,
         "as PL4 against pairs that never had weights beside them, with the model's embeddings, "
         "norms and head and the same distillation",
         "not stated"},
        {"PL5", "Distilling the blocks' outputs helps", source,
         "accuracy paired by seed, sine with against without the blocks' squared error: mean "
         "difference > 0, BERT and ViT",
         "stated without a number"},
        {"PL6", "The compressed model is faster", "what fewer FLOPs are for",
         "shortest forward pass, model over compressed: >= 1.2, BERT and ViT",
         "stated as FLOPs alone"},
        {"PL7", "The published shares follow from rank 32", "arXiv 2406.09117",
         "weights of the blocks' linear layers of ViT-B (query, key and value in one) and "
         "BERT-base "
         "that pairs of rank 32 remove, by formula: at most .5 % away",
         "94.36 %, 93.42 %, which count biases and norms in some way too"}};
  }

  void declare(Config& c) const override {
    c.declare("model", std::string(), "a BERT's folder; empty: the shipped tiny-en");
    c.declare("task", std::string("sst2"), "its task, see docs/text_data.md");
    c.declare("vit_width", index_t{128}, "of the ViT");
    c.declare("vit_layers", index_t{2}, "of the ViT");
    c.declare("vit_side", index_t{2}, "its patches a side");
    c.declare("images", std::string("optdigits"), "its task: optdigits or mnist");
    c.declare("controls", std::string("linear,1-cosine,identity,no features,no decay,fresh"),
              "what sine is compared with");
    c.declare("seeds", index_t{3}, "samples and pairs to average over; the models stay");
    c.declare("ratio", 0.1, "share of the blocks' weights kept in what the claims compare");
    c.declare("ratios", std::vector<double>{0.1, 0.4}, "shares compared, schedule sine");
    c.declare("bert_teacher_steps", index_t{250}, "updates of the BERT before");
    c.declare("vit_teacher_steps", index_t{500}, "updates of the ViT before");
    c.declare("bert_steps", index_t{150}, "updates of PC-LoRA on the BERT");
    c.declare("vit_steps", index_t{400}, "updates of PC-LoRA on the ViT");
    c.declare("batch", index_t{8}, "examples an update");
    c.declare("lr", 3e-3, "PC-LoRA's learning rate");
    c.declare("decay_end", 0.8, "share of the updates after which the weights are gone");
    c.declare("task_weight", 0.2, "of the task's loss; the rest is distillation");
    c.declare("evaluations", index_t{4}, "of each schedule, for the figure of the loss");
    c.declare("max_length", index_t{48}, "texts with more tokens are left out");
    c.declare("dev_examples", index_t{400}, "evaluated on; 0: all");
    c.declare("split", std::string("dev"),
              "what is evaluated on: dev, or tuning, a tenth of train that is then not trained on");
    c.declare("repeats", index_t{20}, "forward passes timed, the shortest counts");
  }

  void preset(const std::string& name, Config& c) const override {
    if (name == "smoke") {
      c.preset("seeds", index_t{2});
      c.preset("controls", std::string("identity,no features,fresh"));
      c.preset("ratios", std::vector<double>{0.4});
      for (const char* steps : {"bert_teacher_steps", "vit_teacher_steps"}) {
        c.preset(steps, index_t{3});
      }
      for (const char* steps : {"bert_steps", "vit_steps"}) c.preset(steps, index_t{2});
      c.preset("batch", index_t{4});
      c.preset("evaluations", index_t{1});
      c.preset("max_length", index_t{32});
      c.preset("dev_examples", index_t{16});
      c.preset("repeats", index_t{2});
    } else if (name == "paper") {
      c.preset("batch", index_t{16});
      c.preset("images", std::string("mnist"));
      c.preset("controls", std::string(every_control));
      c.preset("seeds", index_t{5});
      c.preset("vit_side", index_t{4});
      c.preset("ratios", std::vector<double>{0.02, 0.05, 0.1, 0.2, 0.4});
      c.preset("bert_teacher_steps", index_t{2000});
      c.preset("vit_teacher_steps", index_t{4000});
      c.preset("bert_steps", index_t{2000});
      c.preset("vit_steps", index_t{2000});
      c.preset("evaluations", index_t{10});
      c.preset("max_length", index_t{128});
      c.preset("dev_examples", index_t{0});
    }
  }

  void run(Run& run) const override;
};

// --- Runs ---------------------------------------------------------------------------------------

/// One way to compress; `fresh` is the model with fresh weights.
struct Variant {
  std::string name;
  PcLoraOptions options;
  bool fresh = false;
};

std::string kept_name(double ratio) { return "kept " + number(ratio); }

/// The shares that are compared, the run's own among them.
std::vector<double> ratios_of(const Config& c) {
  std::vector<double> ratios = c.reals("ratios");
  ratios.push_back(c.real("ratio", 0, 1));
  std::sort(ratios.begin(), ratios.end());
  ratios.erase(std::unique(ratios.begin(), ratios.end()), ratios.end());
  return ratios;
}

std::vector<Variant> variants_of(const Config& c) {
  PcLoraOptions o;
  o.ratio = c.real("ratio", 0, 1);
  o.batch = c.integer("batch", 1, 1 << 20);
  o.learning_rate = c.real("lr", 0, 1e3);
  o.decay_end = c.real("decay_end", 0, 1);
  o.task_weight = c.real("task_weight", 0, 1);
  std::vector<Variant> out{{"sine", o}};
  for (const std::string& control : listed_names(c, "controls")) {
    Variant v{control, o};
    if (control == "linear" || control == "1-cosine" || control == "identity") {
      v.options.decay = control;
    } else if (control == "no features") {
      v.options.feature_weight = 0;
    } else if (control == "task alone") {
      v.options.task_weight = 1;
    } else if (control == "no decay" || control == "fresh") {
      v.options.decay_end = 0;
      v.fresh = control == "fresh";
      if (v.fresh) v.options.task_weight = 1;
    } else {
      throw ValueError("controls: there is no '" + control + "'; there are " + every_control);
    }
    out.push_back(v);
  }
  for (const double ratio : ratios_of(c)) {
    if (ratio == o.ratio) continue;
    out.push_back({kept_name(ratio), o});
    out.back().options.ratio = ratio;
  }
  for (const Variant& v : out) check(v.options);
  return out;
}

void compress_all(Run& run, std::vector<Family>& all, const std::vector<Variant>& variants) {
  const Config& c = run.config();
  const index_t seeds = c.integer("seeds", 2, 10000);
  const index_t evaluations = c.integer("evaluations", 1, 1 << 20);
  std::vector<Run::Member> members;
  for (Family& f : all) {
    for (index_t seed = 0; seed < seeds; ++seed) {
      for (const Variant& v : variants) {
        PcLoraOptions o = v.options;
        o.steps = f.steps;
        o.seed = run.seed() + static_cast<std::uint64_t>(seed);
        if (v.name == v.options.decay) {  // for the figure
          o.eval_every = std::max<index_t>(1, f.steps / evaluations);
        }
        members.push_back(
            {f.key + " " + v.name + " seed" + std::to_string(seed), [&f, &v, o](Stage& stage) {
               const auto one = [&](const CompressionData& data) {
                 const CompressionReport r = compress_pc_lora(stage, data, o).report;
                 stage.keep("kept", r.kept());
                 stage.keep("before", static_cast<double>(r.parameters_before));
                 stage.keep("after", static_cast<double>(r.parameters_after));
               };
               if (v.fresh) {
                 one(FreshStart(*f.data, o.seed));
               } else {
                 one(*f.data);
               }
             }});
      }
    }
  }
  const auto records = run.stages("compression", members);
  std::size_t at = 0;
  for (Family& f : all) {
    for (index_t seed = 0; seed < seeds; ++seed) {
      for (const Variant& v : variants) f.runs[v.name].push_back(records[at++]);
    }
  }
}

// --- What it costs to run -----------------------------------------------------------------------

/// Multiply-adds of one sequence of `tokens`: the blocks' linear layers, and what pairs leave
/// alone: attention, patches, pooler and head.
struct Work {
  double blocks = 0, rest = 0;
};

Work work_of(Module<float>& model, index_t tokens) {
  Work work;
  const auto t = static_cast<double>(tokens);
  for (const auto& l : compressible_layers(model)) {
    const auto in = static_cast<double>(l.layer->in());
    work.blocks += t * in * static_cast<double>(l.layer->out());
    if (l.group == "o") work.rest += 2 * t * t * in;
  }
  for (const auto& [name, var] : model.named_parameters()) {
    const auto size = static_cast<double>(var.value().size());
    const auto is = [&, &name = name](const char* part) {
      return name.find(part) != std::string::npos;
    };
    if (is("projection.weight")) work.rest += (t - 1) * size;
    if (is("pooler.dense.weight") || is("classifier.weight")) work.rest += size;
  }
  return work;
}

/// Shortest forward passes of 32 examples, of the model and of pairs in turn, and the work of a
/// sequence. Kept as scalars: metrics.csv has what is the same at every run.
void measure(Stage& stage, const Family& f, double ratio, index_t repeats) {
  const auto dense = f.data->load();
  const auto pairs = f.data->load();
  FactoredRanks ranks;
  for (const auto& l : compressible_layers(*pairs)) {
    ranks[l.name] = rank_for_share(ratio, l.layer->in(), l.layer->out());
  }
  factor_layers(*pairs, ranks);
  constexpr index_t examples = 32;
  const auto part = CompressionData::Part::calibration;
  const index_t n = std::min(examples, f.data->size(part));
  const CompressionBatch batch = f.data->batch(part, Rng(0).choose(f.data->size(part), n), Rng(0));
  const NoGrad no_grad;
  {
    std::vector<Var<float>> blocks;
    Pass pass;
    pass.watch(blocks);
    batch.outputs(*dense, pass);
    const Work work = work_of(*dense, blocks.front().value().size() / blocks.front().dim(-1) / n);
    stage.keep("work.blocks", work.blocks);
    stage.keep("work.rest", work.rest);
  }
  double shortest[2] = {std::numeric_limits<double>::infinity(),
                        std::numeric_limits<double>::infinity()};
  stage.track("dense", shortest[0]);
  stage.track("pairs", shortest[1]);
  stage.loop(repeats, [&](index_t step) {
    if (step == repeats) return Stage::stop;
    for (const int i : {0, 1}) {
      const auto began = std::chrono::steady_clock::now();
      Pass pass;
      batch.outputs(i == 0 ? *dense : *pairs, pass);
      const auto took = std::chrono::steady_clock::now() - began;
      shortest[i] = std::min(shortest[i], 1e3 * std::chrono::duration<double>(took).count());
    }
    return Stage::go_on;
  });
  stage.keep("dense", shortest[0]);
  stage.keep("pairs", shortest[1]);
}

// --- What it comes to ---------------------------------------------------------------------------

std::string percent(double share) { return number(100 * share) + " %"; }

/// Weights of a base model's blocks that pairs of a rank remove; `fused`: query, key and value in
/// one layer.
double removed_at_base(index_t rank, bool fused) {
  constexpr index_t h = 768;
  const index_t dense = 12 * h * h;
  const index_t qkv = fused ? pair_size(rank, h, 3 * h) : 3 * pair_size(rank, h, h);
  const index_t pairs = qkv + pair_size(rank, h, h) + 2 * pair_size(rank, h, 4 * h);
  return 1 - static_cast<double>(pairs) / static_cast<double>(dense);
}

/// Claims on several families are judged where all have their data.
void judge(Run& run, const std::vector<const Family*>& on, const std::string& id, bool holds,
           const std::string& measured) {
  for (const Family* f : on) {
    if (!f->missing.empty()) return run.claim_not_run(id, f->missing + "; " + measured);
  }
  if (run.preset() == "smoke") {
    return run.claim_not_run(id, "preset smoke trains too few steps to judge; " + measured);
  }
  run.claim(id, holds, measured);
}

/// A claim on differences of the metric paired by seed, of all pairs (better, control): means above
/// 0, and for the first pair a t of at least `least_t`.
void judge_paired(Run& run, const std::vector<Family>& all, const std::string& id,
                  const std::vector<std::pair<std::string, std::string>>& pairs, double least_t) {
  const auto scored = [](const Family& f, const std::string& name) {
    return name + " " + spread_text(f.last(name));
  };
  bool holds = true;
  std::string measured;
  std::vector<const Family*> on;
  for (const Family& f : all) {
    on.push_back(&f);
    for (const auto& [better, control] : pairs) {
      for (const std::string& name : {better, control}) {
        if (f.runs.count(name) == 0) return run.claim_not_run(id, "controls has no " + name);
      }
      const std::vector<double> a = f.last(better);
      const std::vector<double> b = f.last(control);
      const PairedStatistics s = paired_statistics(a, b);
      const bool first = better == pairs.front().first;
      holds = holds && s.difference.mean > 0 && (!first || s.t >= least_t);
      measured += (measured.empty() ? "" : "; ") + f.title + ", " + scored(f, better) + " over " +
                  scored(f, control) + ": " + paired_text(a, b) + ", test loss " +
                  number(mean_of(f.last(better, "test_loss"))) + " against " +
                  number(mean_of(f.last(control, "test_loss")));
    }
  }
  judge(run, on, id, holds, measured);
}

void judge_all(Run& run, const std::vector<Family>& all, const std::vector<const Record*>& costs) {
  std::string times;
  bool faster = true;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Family& f = all[i];
    const double kept = f.kept("sine");
    const double blocks = costs[i]->scalar("work.blocks");
    const double rest = costs[i]->scalar("work.rest");
    const double ratio = costs[i]->scalar("dense") / costs[i]->scalar("pairs");
    const double parameters = f.scalar("sine", "after") / f.scalar("sine", "before");
    const double after = mean_of(f.last("sine"));
    judge(run, {&f}, i == 0 ? "PL1" : "PL2", kept <= 0.1 && after >= f.before - 0.03,
          f.title + ": " + percent(1 - kept) + " of the blocks' weights removed (" +
              percent(1 - parameters) + " of all parameters; FLOPs: " + percent(1 - kept) +
              " of the blocks' layers, " + percent(1 - (blocks * kept + rest) / (blocks + rest)) +
              " of all); " + f.metric + " " + number(f.before) + " -> " +
              spread_text(f.last("sine")));
    times += (times.empty() ? "" : "; ") + f.title + ": " + number(costs[i]->scalar("dense")) +
             " ms -> " + number(costs[i]->scalar("pairs")) + " ms, " + number(ratio) + " times";
    faster = faster && ratio >= 1.2;
  }
  judge_paired(run, all, "PL3",
               {{"sine", "identity"}, {"linear", "identity"}, {"1-cosine", "identity"}}, 2);
  judge_paired(run, all, "PL4", {{"sine", "fresh"}}, 2);
  judge_paired(run, all, "PL4b", {{"sine", "no decay"}}, 2);
  judge_paired(run, all, "PL5", {{"sine", "no features"}}, 0);
  if (run.preset() == "smoke") {
    run.claim_not_run("PL6", "preset smoke takes too short passes to judge; " + times);
  } else {
    run.claim("PL6", faster, times);
  }
  const double vit = removed_at_base(32, true);
  const double bert = removed_at_base(32, false);
  run.claim("PL7", std::abs(vit - 0.9436) <= 0.005 && std::abs(bert - 0.9342) <= 0.005,
            percent(vit) + ", " + percent(bert));
}

void draw_accuracy(Run& run, const std::vector<Family>& all, const std::vector<double>& ratios) {
  Figure f;
  f.name = "accuracy";
  f.title = "PC-LoRA: accuracy against compression";
  f.caption =
      "Of the final form, pairs alone, against the weights of the blocks' linear layers that are "
      "left; means over seeds with one standard deviation each way. Line: schedule sine. Points: "
      "controls, all at the share where they meet it, drawn side by side. No decay: random pairs "
      "from the first update on, the rest and the distillation as before. Fresh: random weights "
      "throughout, on the task alone.";
  for (const Family& family : all) {
    Panel& p = f.panel(family.title);
    p.log_x = true;
    p.x_label = "weights of the blocks kept, %";
    p.y_label = family.metric;
    p.legend = Panel::below;
    std::vector<double> x;
    std::vector<std::vector<double>> y(family.runs.at("sine").size());
    for (const double ratio : ratios) {
      const std::string name =
          ratio == run.config().real("ratio") ? std::string("sine") : kept_name(ratio);
      x.push_back(100 * family.kept(name));
      const std::vector<double> values = family.last(name);
      for (std::size_t s = 0; s < values.size(); ++s) y[s].push_back(values[s]);
    }
    p.mean_band("PC-LoRA, sine", x, y);
    double beside = 0.86;  // points that agree do not hide each other
    for (const std::string name : {"identity", "no features", "task alone", "no decay", "fresh"}) {
      if (family.runs.count(name) == 0) continue;
      const Spread s = spread(family.last(name));
      Series& point = p.points(name, {beside * 100 * family.kept(name)}, {s.mean});
      point.low = {s.mean - s.population_std};
      point.high = {s.mean + s.population_std};
      beside += 0.07;
    }
    p.horizontal(family.before, "as it was");
  }
  run.figure(f);
}

void draw_schedules(Run& run, const std::vector<Family>& all) {
  Figure f;
  f.name = "schedules";
  f.title = "PC-LoRA: how the weights go";
  f.caption = "Test loss of the pairs alone while the weights still decay, with " +
              number(100 * run.config().real("ratio")) +
              " % of the blocks' weights to be left; means over seeds with one standard deviation "
              "each way. The weights are gone at the "
              "vertical line; identity removes them there.";
  for (const Family& family : all) {
    Panel& p = f.panel(family.title);
    p.log_y = true;
    p.x_label = "update";
    p.y_label = "test loss without the weights";
    for (const std::string& name : decay_schedules()) {
      if (family.runs.count(name) == 0) continue;
      std::vector<std::vector<double>> losses;
      for (const Record* r : family.runs.at(name)) losses.push_back(r->series("test_loss"));
      p.mean_band(name, family.runs.at(name).front()->steps("test_loss"), losses);
    }
    p.vertical(run.config().real("decay_end") * static_cast<double>(family.steps), "gone");
  }
  run.figure(f);
}

void PcLoraCompression::run(Run& run) const {
  const Config& c = run.config();
  const std::vector<Variant> variants = variants_of(c);
  std::vector<Family> all = compressed_families(run);
  compress_all(run, all, variants);
  std::vector<const Record*> costs;
  costs.reserve(all.size());
  for (const Family& f : all) {
    costs.push_back(&run.stage("cost " + f.key, [&](Stage& stage) {
      measure(stage, f, c.real("ratio"), c.integer("repeats", 1, 1 << 20));
    }));
  }
  judge_all(run, all, costs);
  std::string names;
  for (const Variant& v : variants) names += (names.empty() ? "" : ",") + v.name;
  run.array_note("variants", names);
  for (const Family& f : all) {
    std::vector<std::vector<double>> scores, losses, kept;
    for (const Variant& v : variants) {
      scores.push_back(f.last(v.name));
      losses.push_back(f.last(v.name, "test_loss"));
      kept.push_back({f.kept(v.name)});
    }
    run.array(f.key + "." + f.metric, as_matrix(scores));
    run.array(f.key + ".test_loss", as_matrix(losses));
    run.array(f.key + ".kept", as_matrix(kept));
    run.array_note(f.key + ".task", f.title);
    run.array_note(f.key + ".before", number(f.before));
  }
  draw_accuracy(run, all, ratios_of(c));
  draw_schedules(run, all);
}

}  // namespace
PARSIMONY_EXPERIMENT(114, PcLoraCompression)
}  // namespace parsimony::lab
