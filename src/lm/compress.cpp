// Compression without gradients: factors of all ranks from moments of the inputs, and shares of the
// budget by group, uniform or by Bayesian optimisation (Bolaco, section 3.3; the settings of its
// authors' OpenBox search).
#include <parsimony/compress.hpp>
#include <parsimony/error.hpp>
#include <parsimony/feature_pca.hpp>
#include <parsimony/strings.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "lm/compress_recover.hpp"
#include "lm/compress_score.hpp"

namespace parsimony {

namespace {

using T = float;
using Layers = std::vector<CompressibleLayer<T>>;
using Part = CompressionData::Part;

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

double size_of(const CompressibleLayer<T>& l) {
  return static_cast<double>(l.layer->in()) * static_cast<double>(l.layer->out());
}

/// Compressible groups in the model's order, without those that stay dense, and their weights.
struct Groups {
  std::vector<std::string> names;
  std::vector<double> sizes;
  double dense = 0;  // weights of the others
  Groups(const Layers& layers, const std::vector<std::string>& stay) {
    for (const auto& l : layers) {
      if (contains(stay, l.group)) {
        dense += size_of(l);
        continue;
      }
      const auto at = std::find(names.begin(), names.end(), l.group);
      if (at == names.end()) {
        names.push_back(l.group);
        sizes.push_back(size_of(l));
      } else {
        sizes[static_cast<std::size_t>(at - names.begin())] += size_of(l);
      }
    }
  }
  double total() const {
    double sum = 0;
    for (const double s : sizes) sum += s;
    return sum;
  }
  /// Share of the groups' weights that shares by group keep.
  double kept(const std::vector<double>& shares) const {
    double sum = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) sum += sizes[i] * std::min(1.0, shares[i]);
    return sum / total();
  }
};

/// @throws ValueError on a group that no family has.
void check_group(const std::string& group) {
  const std::vector<std::string> groups = {"qk", "v", "o", "gate", "up", "down", "qkv"};
  if (contains(groups, group)) return;
  const std::string near = nearest_name(group, groups);
  throw ValueError(fmt::format("dense: expected none or groups of {}; got '{}'{}",
                               fmt::join(groups, ", "), group,
                               near.empty() ? "" : "; did you mean '" + near + "'?"));
}

/// A dense layer's weights, and its pairs.
struct Choice {
  Linear<T>* layer;
  Var<T> weight, bias;
  LayerFactors<T> factors;
};

class Compressor {
 public:
  Compressor(const CompressionData& data, const CompressOptions& o, const CompressionProgress& say)
      : data_(data), o_(o), say_(say), model_(data.load()), layers_(compressible_layers(*model_)) {
    if (layers_.empty()) {
      throw InputError("compress: the model has no linear layers of attention or MLP");
    }
    require_dense(layers_);
    report_.method = o.method;
    report_.ratio = o.ratio;
    report_.allocation =
        o.allocation.empty() ? (o.method == "bolaco" ? "bayes" : "uniform") : o.allocation;
    report_.parameters_before = count(*model_);
    report_.remarks = data.remarks;
    for (const std::string& group : o.dense) {
      check_group(group);
      if (o.dense != CompressOptions().dense &&
          std::none_of(layers_.begin(), layers_.end(),
                       [&](const auto& l) { return l.group == group; })) {
        report_.remarks.push_back(fmt::format("the model has no group '{}' to leave dense", group));
      }
    }
  }

  Compressed run() {
    const auto start = std::chrono::steady_clock::now();
    const double uniform = uniform_share(layers_, o_.dense, o_.ratio);
    const Groups groups(layers_, o_.dense);
    make_factors();
    const std::unique_ptr<Module<T>> original = data_.load();
    const Scorer test(data_, Part::test, original.get());
    report_.before = test.of_original(&report_.scores_before);
    std::vector<double> shares(groups.names.size(), uniform);
    report_.groups = groups.names;
    if (report_.allocation != "uniform") shares = allocate(groups, uniform, *original);
    apply(groups, shares);
    if (o_.recover_steps > 0) {
      report_.unrecovered = test(*model_);
      recover_pairs(*model_, layers_, data_, o_, [&](const std::string& line) { say(line); });
    }
    report_.after = test(*model_, &report_.scores_after);
    report_.parameters_after = count(*model_);
    for (const auto& l : layers_) {
      report_.layers.push_back({l.name, l.group, l.layer->in(), l.layer->out(), l.layer->rank()});
    }
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return {std::move(model_), report_};
  }

 private:
  static index_t count(const Module<T>& model) {
    index_t sum = 0;
    for (const auto& [name, var] : model.named_parameters()) sum += var.value().size();
    return sum;
  }
  void say(const std::string& line) const {
    if (interrupt_requested()) throw Interrupted("compress: stopped; nothing was written");
    if (say_) say_(line);
  }
  bool stays(const CompressibleLayer<T>& l) const { return contains(o_.dense, l.group); }

  void make_factors() {
    LayerInputs inputs;
    if (o_.method != "svd") {
      inputs = moments();
    }
    for (const auto& l : layers_) {
      if (stays(l)) continue;
      say(fmt::format("factors of {}", l.name));
      const Tensor<T>& w = l.layer->weight.value();
      const Tensor<T> b = l.layer->bias.defined() ? l.layer->bias.value() : Tensor<T>();
      choices_.emplace(
          l.name,
          Choice{l.layer, l.layer->weight, l.layer->bias,
                 o_.method == "svd"    ? LayerFactors<T>::from_svd(w, b)
                 : o_.method == "asvd" ? LayerFactors<T>::from_activations(w, b, inputs.of(l.name))
                                       : LayerFactors<T>::from_features(w, b, inputs.of(l.name))});
    }
  }

  LayerInputs moments() {
    Layers compressed;
    for (const auto& l : layers_) {
      if (!stays(l)) compressed.push_back(l);
    }
    const index_t sequences = data_.size(Part::calibration);
    const Rng rng = Rng(o_.seed).split("calibration");
    LayerInputs inputs = collect_inputs<T>(compressed, sequences, o_.group, [&](index_t i) {
      if (i % 8 == 0) say(fmt::format("calibration {}/{}", i, sequences));
      Pass pass;
      data_.batch(Part::calibration, {i}, rng.split(static_cast<std::uint64_t>(i)))
          .outputs(*model_, pass);
    });
    report_.calibration_sequences = sequences;
    std::size_t short_ones = 0;
    double largest = 0;
    index_t fewest = 0;
    bool partial = false;
    for (InputMoments& m : inputs.inputs) {
      report_.calibration_tokens = std::max(report_.calibration_tokens, m.tokens);
      partial = partial || m.groups == 0;
      if (o_.method != "bolaco" || !calibration_is_short(m)) continue;
      fewest = short_ones++ == 0 ? m.tokens : std::min(fewest, m.tokens);
      largest = std::max(largest, shrink_covariance(m));
    }
    if (partial) {
      report_.remarks.push_back(fmt::format(
          "calibration: fewer than one group of {} sequences; the moments are those of all {}",
          o_.group, sequences));
    }
    if (short_ones > 0) {
      report_.remarks.push_back(fmt::format(
          "calibration is short: {} of {} covariances have fewer than 10 tokens a variable (the "
          "fewest {}); they are shrunk towards a multiple of the identity, by at most {:.3g}",
          short_ones, inputs.inputs.size(), fewest, largest));
    }
    return inputs;
  }

  void apply(const Groups& groups, const std::vector<double>& shares) {
    for (const auto& l : layers_) {
      const auto found = choices_.find(l.name);
      if (found == choices_.end()) continue;
      const Choice& c = found->second;
      const auto at = std::find(groups.names.begin(), groups.names.end(), l.group);
      const double share = shares[static_cast<std::size_t>(at - groups.names.begin())];
      if (share >= 1) {
        c.layer->unfactor(c.weight, c.bias);
        continue;
      }
      const index_t rank = std::min(
          c.factors.max_rank(), rank_for_share(share, c.layer->in(), c.layer->out(), o_.multiple));
      const FactoredWeights<T> f = c.factors.at(rank);
      c.layer->factor(Var<T>(f.reduce, true), Var<T>(f.expand, true), Var<T>(f.bias, true));
    }
  }

  std::vector<double> allocate(const Groups& groups, double target, const Module<T>& original) {
    constexpr double slack = 0.1;
    constexpr double most = 1.001;  // beyond 1: dense
    const double least = std::min(0.2, target / 2);
    const double low = std::max(least, target - slack);
    const std::size_t n = groups.names.size();
    if (n == 1) return {target};
    const Scorer scorer(data_, Part::allocation, &original);
    BoxProblem problem;
    problem.low.assign(n, least);
    problem.high.assign(n, most);
    problem.feasible = [&](const std::vector<double>& x) {
      const double kept = groups.kept(x);
      return kept <= target * (1 + 1e-12) && kept >= low;
    };
    problem.draw = [&](Rng& rng) { return draw(groups, least, most, low, target, rng, problem); };
    // Uniform, and little for query, key and the output of attention, the rest to the others.
    problem.start = {std::vector<double>(n, target)};
    std::vector<double> second(n, 0.0);
    double spent = 0;
    double rest = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const bool few = groups.names[i] == "qk" || groups.names[i] == "o";
      if (few) second[i] = std::max(least, 0.6 * target);
      (few ? spent : rest) += groups.sizes[i] * (few ? second[i] : 1.0);
    }
    for (double& x : second) {
      if (x == 0) x = std::min(most, (target * groups.total() - spent) / rest);
    }
    if (rest > 0 && rest < groups.total() && problem.feasible(second)) {
      problem.start.push_back(second);
    }
    index_t done = 0;
    double best = std::numeric_limits<double>::infinity();
    problem.value = [&](const std::vector<double>& shares) {
      apply(groups, shares);
      const CompressionScore s = scorer(*model_);
      const double value = std::exp(s.loss) + o_.kl_weight * s.sequence_divergence;
      best = std::min(best, value);
      say(fmt::format("allocation {}/{}: {:.4f}, best {:.4f}", ++done, o_.evaluations, value,
                      best));
      return value;
    };
    BayesOptions bayes;
    bayes.evaluations = o_.evaluations;
    const Rng rng = Rng(o_.seed).split("allocation");
    const BayesResult found = report_.allocation == "random"
                                  ? random_minimize(problem, o_.evaluations, rng)
                                  : bayes_minimize(problem, bayes, rng);
    report_.history = found.history;
    return found.result().point;
  }

  /// A random feasible point: by rejection while that is likely, else one that is moved along a
  /// line through the box's corner until the budget fits.
  static std::vector<double> draw(const Groups& groups, double least, double most, double low,
                                  double high, Rng& rng, const BoxProblem& problem) {
    constexpr int by_rejection = 50;
    std::vector<double> x(groups.names.size());
    for (int i = 0;; ++i) {
      for (double& v : x) v = least + (most - least) * rng.uniform();
      if (problem.feasible(x)) return x;
      if (i < by_rejection) continue;
      const double wanted = low + (high - low) * rng.uniform();
      const double kept = groups.kept(x);
      const double corner = kept > wanted ? least : 1.0;
      const double t = (wanted - kept) / (corner - kept);
      for (double& v : x) v += t * (corner - std::min(1.0, v));
      if (problem.feasible(x)) return x;
    }
  }

  const CompressionData& data_;
  const CompressOptions& o_;
  const CompressionProgress& say_;
  std::unique_ptr<Module<T>> model_;
  Layers layers_;
  std::map<std::string, Choice> choices_;
  CompressionReport report_;
};

}  // namespace

void require_dense(const std::vector<CompressibleLayer<float>>& layers) {
  for (const auto& l : layers) {
    if (l.layer->factored()) {
      throw InputError(
          fmt::format("compress: the model is compressed already: '{}' is a pair of rank {}",
                      l.name, l.layer->rank()));
    }
  }
}

double uniform_share(const std::vector<CompressibleLayer<float>>& layers,
                     const std::vector<std::string>& dense, double ratio) {
  const Groups groups(layers, dense);
  if (groups.names.empty()) {
    throw ValueError("--dense: expected to leave some layers to compress; got all groups");
  }
  const double total = groups.total() + groups.dense;
  double least = groups.dense;
  for (const auto& l : layers) {
    if (!contains(dense, l.group)) {
      least += static_cast<double>(pair_size(1, l.layer->in(), l.layer->out()));
    }
  }
  if (ratio * total < least) {
    throw ValueError(fmt::format(
        "ratio: expected at least {:.4f}, which is one direction a layer{}; got {}", least / total,
        groups.dense > 0 ? fmt::format(" beside the {:.1f} % of the weights that stay dense ({}; "
                                       "--dense none compresses them too)",
                                       100 * groups.dense / total, fmt::join(dense, ", "))
                         : "",
        ratio));
  }
  return (ratio * total - groups.dense) / groups.total();
}

void check(const CompressOptions& o) {
  const auto need = [](bool ok, const std::string& what) {
    if (!ok) throw ValueError("compress: expected " + what);
  };
  need(o.method == "bolaco" || o.method == "svd" || o.method == "asvd",
       fmt::format("a method bolaco, svd, asvd or pc-lora; got '{}'", o.method));
  need(o.ratio > 0 && o.ratio < 1, fmt::format("a ratio in (0, 1); got {}", o.ratio));
  need(o.allocation.empty() || o.allocation == "bayes" || o.allocation == "uniform" ||
           o.allocation == "random",
       fmt::format("an allocation bayes, uniform or random; got '{}'", o.allocation));
  need(o.multiple >= 1 && o.group >= 1 && o.evaluations >= 1,
       "a multiple, a group and evaluations of at least 1");
  need(o.kl_weight >= 0,
       fmt::format("a weight of the divergence of at least 0; got {}", o.kl_weight));
  need(o.recover_method == "lora" || o.recover_method == "subspace",
       fmt::format("a recovery by lora or subspace; got '{}'", o.recover_method));
  need(o.recover_steps >= 0 && o.recover_rate >= 0 && o.recover_rank >= 0,
       "recovery steps, a rate and a rank of at least 0");
}

Compressed compress(const CompressionData& data, const CompressOptions& options,
                    const CompressionProgress& say) {
  check(options);
  return Compressor(data, options, say).run();
}

}  // namespace parsimony
