// Perplexity against the weights kept: principal components of the outputs with searched and with
// uniform ranks (Bolaco), and the SVDs of the weights, on a pretrained LLaMA and on one trained
// here.
#include <parsimony/compress.hpp>
#include <parsimony/experiment.hpp>

#include <memory>

#include "bolaco_model.hpp"
#include "support.hpp"

namespace parsimony::lab {
namespace {

constexpr const char* source_of_data =
    "name the folder with --data DIR or PARSIMONY_DATA; docs/text_data.md says where data sets "
    "come from";
const std::vector<std::string> groups = {"qk", "o", "gate", "up", "down"};

class Bolaco : public Experiment {
 public:
  ExperimentInfo info() const override {
    return {"bolaco",
            "low-rank layers from features: perplexity against the weights kept",
            "Bolaco (arXiv 2405.10616): decomposition of features, allocation of ranks",
            {{"smoke", 0.02}, {"quick", 0.3}, {"paper", 10}}};
  }

  std::vector<ClaimStatement> claims() const override {
    const std::string everywhere = ", both models, every ratio";
    const std::string starved =
        "share of qk below the uniform share, mean of gate's and up's above "
        "it, every ratio";
    return {
        {"BO1",
         "At equal ranks the principal components of the outputs lose less than the SVD of the "
         "weights",
         "methods spec 8.1, 8.6",
         "uniform ranks: test loss of feature-PCA below that of plain SVD" + everywhere,
         "feature-PCA well below SVD"},
        {"BO2", "Searched ranks lose less than uniform ones", "methods spec 8.4, 8.6",
         "test loss of Bolaco below that of uniform feature-PCA" + everywhere,
         "Bolaco below uniform"},
        {"BO3", "The bias for the mean of what is cut off matters", "methods spec 8.1, 0.8",
         "uniform feature-PCA: test loss with it below that without" + everywhere,
         "3.68 against 4.58 nats at .8, stories260K"},
        {"BO4", "The search starves query and key and spares gate and up: stories260K",
         "methods spec 8.6", starved, "query and key keep little, gate and up much"},
        {"BO4b", "The same on the model trained here", "methods spec 8.6", starved, "as BO4"},
        {"BO5", "Bayesian optimisation finds better ranks than as many random trials",
         "methods spec 8.6",
         "objective on the allocation text: mean over models and ratios of log(random / Bayesian) "
         "above 0",
         "better than random search"},
        {"BO6", "A few updates of LoRA on the pairs recover part of what was lost",
         "methods spec 8.5", "test loss after recovery below that before" + everywhere,
         "better after post-training"}};
  }

  void declare(Config& c) const override {
    c.declare("ratios", std::vector<double>{0.6, 0.8}, "shares of the weights kept");
    c.declare("evaluations", index_t{20}, "of the search for ranks");
    c.declare("sequences", index_t{128}, "calibration sequences");
    c.declare("windows", index_t{16}, "sequences for the allocation, and as many for the test");
    c.declare("length", index_t{128}, "tokens a sequence");
    c.declare("recover", index_t{30}, "updates of LoRA on Bolaco's pairs");
    c.declare("own_width", index_t{64}, "hidden size of the model trained here");
    c.declare("own_layers", index_t{3}, "its layers");
    c.declare("own_steps", index_t{600}, "its updates, 8 sequences of 64 tokens each");
    c.declare("own_text", index_t{1 << 20},
              "bytes of captions it is trained on; 0: all but those "
              "it is compressed on");
  }

  void preset(const std::string& name, Config& c) const override {
    if (name == "smoke") {
      c.preset("ratios", std::vector<double>{0.8});
      c.preset("evaluations", index_t{4});
      c.preset("sequences", index_t{16});
      c.preset("windows", index_t{4});
      c.preset("length", index_t{64});
      c.preset("recover", index_t{2});
      c.preset("own_width", index_t{32});
      c.preset("own_layers", index_t{1});
      c.preset("own_steps", index_t{4});
      c.preset("own_text", index_t{1 << 16});
    } else if (name == "paper") {
      c.preset("ratios", std::vector<double>{0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95});
      c.preset("evaluations", index_t{50});
      c.preset("sequences", index_t{512});
      c.preset("windows", index_t{64});
      c.preset("recover", index_t{300});
      c.preset("own_width", index_t{128});
      c.preset("own_layers", index_t{4});
      c.preset("own_steps", index_t{3000});
      c.preset("own_text", index_t{0});
    }
  }

  void run(Run& run) const override;
};

/// A model and its text.
struct Subject {
  std::string name, title;
  std::unique_ptr<CompressionData> data;
};

CompressionSource source_for(const Config& c, const std::string& model, const std::string& text) {
  CompressionSource source;
  source.model = model;
  source.calibration = {text};
  source.sequences = c.integer("sequences", 1, 1 << 24);
  source.windows = c.integer("windows", 1, 1 << 20);
  source.length = c.integer("length", 16, 512);
  return source;
}

// --- Compressions -------------------------------------------------------------------------------

struct Method {
  std::string name, label, method, allocation;
};
const std::vector<Method> methods = {{"svd", "SVD of the weights", "svd", "uniform"},
                                     {"asvd", "activation-aware SVD", "asvd", "uniform"},
                                     {"uniform", "feature-PCA, uniform", "bolaco", "uniform"},
                                     {"bolaco", "Bolaco", "bolaco", "bayes"},
                                     {"random", "feature-PCA, random search", "bolaco", "random"}};

/// The loss when the pairs lack the bias that is for the mean of what they cut off; the layers have
/// none of their own.
double loss_without_mean(const CompressionData& data, Module<float>& model) {
  for (const auto& l : compressible_layers(model)) {
    if (!l.layer->factored()) continue;
    Var<float> bias = l.layer->expand().bias;
    bias.assign(Tensor<float>::zeros(bias.shape()));
  }
  return compression_score(data, CompressionData::Part::test, model, nullptr).loss;
}

void compress_once(Stage& stage, const Subject& subject, const Method& m, double ratio,
                   const Config& c, std::uint64_t seed) {
  CompressOptions o;
  o.method = m.method;
  o.allocation = m.allocation;
  o.ratio = ratio;
  o.evaluations = c.integer("evaluations", 1, 1 << 20);
  o.seed = seed;
  if (m.name == "bolaco") o.recover_steps = c.integer("recover", 1, 1 << 30);
  Compressed made = compress(*subject.data, o);
  const CompressionReport& r = made.report;
  const double loss = r.unrecovered ? r.unrecovered->loss : r.after.loss;
  double best = std::numeric_limits<double>::infinity();
  std::vector<double> shares(groups.size(), ratio);
  for (std::size_t i = 0; i < r.history.size(); ++i) {
    if (r.history[i].value < best) {
      best = r.history[i].value;
      for (std::size_t g = 0; g < r.groups.size(); ++g) {
        const auto at = std::find(groups.begin(), groups.end(), r.groups[g]) - groups.begin();
        shares.at(static_cast<std::size_t>(at)) = std::min(1.0, r.history[i].point[g]);
      }
    }
    stage.log(static_cast<index_t>(i), {{"objective", r.history[i].value}, {"best", best}});
  }
  stage.log(static_cast<index_t>(r.history.size()),
            {{"kept", r.kept()},
             {"test_loss", stage.finite("test_loss", loss)},
             {"test_divergence", (r.unrecovered ? *r.unrecovered : r.after).divergence}});
  stage.keep("dense_loss", r.before.loss);
  stage.keep("loss", loss);
  stage.keep("kept", r.kept());
  stage.keep("uniform_share",
             uniform_share(compressible_layers(*subject.data->load()), o.dense, ratio));
  if (!r.history.empty()) {
    stage.keep("best", best);
    for (std::size_t g = 0; g < groups.size(); ++g) stage.keep("share." + groups[g], shares[g]);
  }
  if (r.unrecovered) stage.keep("recovered", r.after.loss);
  if (m.name == "uniform") {
    stage.keep("without_mean", loss_without_mean(*subject.data, *made.model));
  }
}

/// What the compressions of one model came to, by method and ratio.
using Results = std::map<std::string, std::vector<const Record*>>;

std::vector<double> column(const std::vector<const Record*>& records, const std::string& name) {
  std::vector<double> out;
  out.reserve(records.size());
  for (const Record* r : records) out.push_back(r->scalar(name));
  return out;
}

std::vector<double> exponentials(std::vector<double> values) {
  for (double& v : values) v = std::exp(v);
  return values;
}

void add_members(std::vector<Run::Member>& members, const Subject& subject, const Run& run,
                 const std::vector<double>& ratios) {
  const Config& c = run.config();
  const std::uint64_t seed = run.seed();
  for (const Method& m : methods) {
    for (const double ratio : ratios) {
      members.push_back({subject.name + " " + m.name + " " + number(ratio),
                         [&subject, &m, ratio, &c, seed](Stage& stage) {
                           compress_once(stage, subject, m, ratio, c, seed);
                         }});
    }
  }
}

/// From `at` on, in the order of add_members.
Results results_at(const std::vector<const Record*>& records, std::size_t at, std::size_t ratios) {
  Results out;
  for (const Method& m : methods) {
    for (std::size_t i = 0; i < ratios; ++i) out[m.name].push_back(records.at(at++));
  }
  return out;
}

// --- Claims and figures -------------------------------------------------------------------------

class Verdicts {
 public:
  explicit Verdicts(Run& run) : run_(run) {}
  /// "ratio .8: a against b" where each must be below.
  void below(const std::string& id, const std::string& subject, const std::vector<double>& ratios,
             const std::vector<double>& a, const std::vector<double>& b) {
    std::string text;
    bool holds = true;
    for (std::size_t i = 0; i < ratios.size(); ++i) {
      holds = holds && a[i] < b[i];
      text += (i > 0 ? ", " : "") + number(ratios[i]) + ": " + number(a[i]) + " against " +
              number(b[i]);
    }
    add(id, holds, subject + " " + text);
  }
  void add(const std::string& id, bool holds, const std::string& text) {
    auto& [all, said] = found_[id];
    if (said.empty()) all = true;
    all = all && holds;
    said += (said.empty() ? "" : "; ") + text;
  }
  void judge() {
    for (const auto& [id, outcome] : found_) {
      if (run_.preset() == "smoke") {
        run_.claim_not_run(id, "preset smoke is too small to judge; " + outcome.second);
      } else {
        run_.claim(id, outcome.first, outcome.second);
      }
    }
  }

 private:
  Run& run_;
  std::map<std::string, std::pair<bool, std::string>> found_;
};

void judge(Verdicts& v, const Subject& s, const std::string& allocation_claim,
           const std::vector<double>& ratios, const Results& r) {
  const auto loss = [&](const std::string& method) { return column(r.at(method), "loss"); };
  v.below("BO1", s.title, ratios, loss("uniform"), loss("svd"));
  v.below("BO2", s.title, ratios, loss("bolaco"), loss("uniform"));
  v.below("BO3", s.title, ratios, loss("uniform"), column(r.at("uniform"), "without_mean"));
  v.below("BO6", s.title, ratios, column(r.at("bolaco"), "recovered"), loss("bolaco"));
  bool holds = true;
  std::string text = s.title + " qk, gate and up, uniform";
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    const Record& found = *r.at("bolaco")[i];
    const double uniform = found.scalar("uniform_share");
    const double spared = (found.scalar("share.gate") + found.scalar("share.up")) / 2;
    const double qk = found.scalar("share.qk");
    holds = holds && qk < uniform && spared > uniform;
    text += (i > 0 ? ", " : " ") + number(ratios[i]) + ": " + number(qk) + ", " + number(spared) +
            ", " + number(uniform);
  }
  v.add(allocation_claim, holds, text);
}

/// The mean of log(random / Bayesian) over models and ratios, and the counts.
void judge_search(Verdicts& v, const std::vector<Results>& results) {
  double gain = 0;
  index_t wins = 0;
  index_t count = 0;
  for (const Results& r : results) {
    const std::vector<double> bayes = column(r.at("bolaco"), "best");
    const std::vector<double> random = column(r.at("random"), "best");
    for (std::size_t i = 0; i < bayes.size(); ++i, ++count) {
      gain += std::log(random[i] / bayes[i]);
      wins += bayes[i] < random[i] ? 1 : 0;
    }
  }
  gain /= static_cast<double>(count);
  v.add("BO5", gain > 0,
        "mean log ratio " + number(gain) + "; better in " + std::to_string(wins) + " of " +
            std::to_string(count));
}

void draw_perplexity(Run& run, const std::vector<Subject>& subjects,
                     const std::vector<Results>& results) {
  Figure f;
  f.name = "perplexity";
  f.title = "Perplexity against the weights kept";
  f.caption =
      "Perplexity on text that nothing else saw, against the kept share of the weights of "
      "attention "
      "and MLP. Uniform ranks are equal for the three; Bolaco's are searched at the same budget. "
      "Recovery is " +
      std::to_string(run.config().integer("recover")) + " updates of LoRA on Bolaco's pairs.";
  f.order = 1;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    const Results& r = results[i];
    Panel& p = f.panel(subjects[i].title);
    p.x_label = "share of the weights kept";
    p.y_label = "perplexity";
    p.log_y = true;
    for (const Method& m : methods) {
      if (m.name == "random") continue;
      const auto& records = r.at(m.name);
      p.line(m.label, column(records, "kept"), exponentials(column(records, "loss"))).style =
          Series::solid_markers;
    }
    const auto& records = r.at("bolaco");
    p.dashed("Bolaco, recovered", column(records, "kept"),
             exponentials(column(records, "recovered")))
        .color = 3;
    p.horizontal(std::exp(records.front()->scalar("dense_loss")), "dense");
  }
  run.figure(f);
}

void draw_allocation(Run& run, const std::vector<Subject>& subjects,
                     const std::vector<double>& ratios, const std::vector<Results>& results) {
  Figure f;
  f.name = "allocation";
  f.title = "What the search keeps of each group";
  f.caption =
      "Share of its weights that every group of layers keeps at the best point found; values stay "
      "dense. qk: query and key; o: the output of attention.";
  f.order = 2;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    Panel& p = f.panel(subjects[i].title);
    p.y_label = "share kept";
    p.categories = groups;
    p.legend = Panel::below;
    p.y_range = {0, 1.05};
    for (std::size_t k = 0; k < ratios.size(); ++k) {
      std::vector<double> x, shares;
      for (std::size_t g = 0; g < groups.size(); ++g) {
        x.push_back(static_cast<double>(g));
        shares.push_back(results[i].at("bolaco")[k]->scalar("share." + groups[g]));
      }
      p.bars("ratio " + number(ratios[k]), x, shares);
    }
  }
  run.figure(f);
}

void draw_search(Run& run, const std::vector<Subject>& subjects, const std::vector<double>& ratios,
                 const std::vector<Results>& results) {
  const std::size_t middle = ratios.size() / 2;
  Figure f;
  f.name = "search";
  f.title = "The search for ranks";
  f.caption = "Best objective so far, perplexity + 0.001 KL on the allocation text, at ratio " +
              number(ratios[middle]) + ". Both searches begin with the same two points.";
  f.order = 3;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    Panel& p = f.panel(subjects[i].title);
    p.x_label = "evaluations";
    p.y_label = "best objective";
    if (i > 0) p.legend = Panel::none;
    const auto best = [&](const Record& r, const std::string& label) -> Series& {
      std::vector<double> x = r.steps("best");
      for (double& v : x) v += 1;
      return p.line(label, x, r.series("best"));
    };
    best(*results[i].at("bolaco")[middle], "Bayesian optimisation");
    best(*results[i].at("random")[middle], "random search").style = Series::dash;
  }
  run.figure(f);
}

void Bolaco::run(Run& run) const {
  const Config& c = run.config();
  const std::vector<double> ratios = c.reals("ratios");
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    if (!(ratios[i] > 0 && ratios[i] < 1) || (i > 0 && ratios[i] <= ratios[i - 1])) {
      throw ValueError("ratios: expected ascending numbers in (0, 1); got " + number(ratios[i]));
    }
  }
  if (ratios.empty()) throw ValueError("ratios: expected at least one; got none");
  const std::string stories = run.data_file("stories260k/stories260K.bin", source_of_data);
  const std::string tales = run.data_file("text/tinystories-sample.txt", source_of_data);
  const std::string captions = run.data_file("text/flickr8k-captions.txt", source_of_data);
  const std::string folder = run.folder() + "/own";
  split_captions(captions, c.integer("own_text", 0, 1 << 30), folder);

  std::vector<Subject> subjects(2);
  subjects[0] = {"stories260K", "stories260K", text_compression(source_for(c, stories, tales))};
  std::vector<Run::Member> members;
  members.push_back({"own training", [&c, folder, rng = run.rng().split("own")](Stage& stage) {
                       train_own(stage, c, folder, rng);
                     }});
  add_members(members, subjects[0], run, ratios);
  const auto first = run.stages("stories260K, and training", members);
  subjects[1] = {"own", "own LLaMA",
                 text_compression(source_for(c, folder + "/model", folder + "/held_out.txt"))};
  members.clear();
  add_members(members, subjects[1], run, ratios);
  const auto second = run.stages("own LLaMA", members);

  const std::vector<Results> results = {results_at(first, 1, ratios.size()),
                                        results_at(second, 0, ratios.size())};
  Verdicts verdicts(run);
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    judge(verdicts, subjects[i], i == 0 ? "BO4" : "BO4b", ratios, results[i]);
  }
  judge_search(verdicts, results);
  verdicts.judge();
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    std::vector<double> losses;
    for (const Method& m : methods) {
      for (const double v : column(results[i].at(m.name), "loss")) losses.push_back(v);
    }
    Tensor<double> table(
        {static_cast<index_t>(methods.size()), static_cast<index_t>(ratios.size())}, losses);
    run.array(subjects[i].name + ".loss", table);
  }
  run.array_note("methods", "svd,asvd,uniform,bolaco,random");
  draw_perplexity(run, subjects, results);
  draw_allocation(run, subjects, ratios, results);
  draw_search(run, subjects, ratios, results);
}

}  // namespace
PARSIMONY_EXPERIMENT(115, Bolaco)
}  // namespace parsimony::lab
