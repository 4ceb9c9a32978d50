// The stages of dln-subspace: trajectories through the engine with their deviations from the
// theorem measured as they run, and the subspaces that the first gradient gives.
#include <limits>

#include "dln_subspace.hpp"

namespace parsimony::lab {

namespace {

/// 0, 1, 2, 5, 10, 20, 50, ...: the iterates kept for whoever wants to check the claims.
bool is_kept(index_t t, index_t figure_iterations, index_t last) {
  if (t == 0 || t == last || t == figure_iterations) return true;
  while (t % 10 == 0) t /= 10;
  return t == 1 || t == 2 || t == 5;
}

/// (d - 2 r̂) Π ρ_l(t)².
double exact_gap(const Trajectory& t, index_t step, index_t d) {
  auto out = static_cast<double>(d - t.width());
  for (index_t l = 0; l < t.depth(); ++l) out *= std::pow(t.rho.at({step, l}), 2);
  return out;
}

}  // namespace

void run_trajectory(Run& run, const SubspaceSettings& s, const Tensor<double>& phi, Trajectory& t,
                    bool evolution) {
  const std::vector<index_t> dims(t.eps.size() + 1, s.d);
  t.initial = DeepLinear<double>(dims, t.eps, run.rng().split("init")).values();
  t.bases = invariant_subspace(t.initial, phi, t.rhat);
  t.rho = rho_recursion(t.eps, t.eta, t.weight_decay, t.momentum, t.iterations);
  const Tensor<double> left = slice(t.bases.u.back(), 1, 0, t.width());
  const Tensor<double> right = slice(t.bases.v.front(), 1, 0, t.width());
  const Tensor<double> small_phi = matmul(matmul(left, phi, true, false), right);
  const index_t stride = std::max<index_t>(1, t.iterations / s.measurements);
  double bound = static_cast<double>(s.d - t.width());
  for (const double eps : t.eps) bound *= eps * eps;
  // What the rounding of f itself does to the norm of a difference.
  const double round_off = 1e-14 * frobenius(phi);

  t.record = &run.stage(t.name, [&](Stage& stage) {
    const DeepLinear<double> net(t.initial);
    const CompressedLinear<double> small(left, right, t.depth(), t.eps, false);
    GradientDescent<double> opt(one_group(net.named_parameters(), t.weight_decay), t.eta,
                                t.momentum);
    GradientDescent<double> small_opt(one_group(small.inner_parameters(), t.weight_decay), t.eta,
                                      t.momentum);
    SvdEvolution svds(t.depth(), s.d, s.r, s.figure_iterations);
    double worst_gap_relative = 0;
    double worst_gap_error = 0;   // the same beyond round-off
    double worst_gap_excess = 0;  // of the gap over the bound, relative
    double largest_entry = 0;
    stage.track(net.named_parameters());
    stage.track(small.inner_parameters());
    for (const auto& [name, tensor] : opt.state()) stage.track(name, tensor);
    for (const auto& [name, tensor] : small_opt.state()) stage.track(name, tensor);
    stage.track("worst_gap_relative", worst_gap_relative);
    stage.track("worst_gap_error", worst_gap_error);
    stage.track("worst_gap_excess", worst_gap_excess);
    stage.track("largest_entry", largest_entry);
    if (evolution) svds.track(stage);

    const auto measure = [&](index_t step, double loss, double gap, double exact) {
      BlockDeviation worst;
      double core = 0;
      std::vector<std::pair<std::string, double>> row = {{"train_loss", loss}};
      std::vector<std::pair<std::string, double>> levels;
      for (int l = 1; l <= t.depth(); ++l) {
        const Tensor<double> block = in_bases(t.bases, net.factor(l).value(), l);
        const BlockDeviation now = block_deviation(block, t.width(), t.rho.at({step, l - 1}));
        worst.middle = std::max(worst.middle, now.middle);
        worst.off_diagonal = std::max(worst.off_diagonal, now.off_diagonal);
        const Tensor<double> active = slice(block.rows(0, t.width()), 1, 0, t.width());
        core = std::max(core, max_abs(sub(active, small.core_factor(l).value())));
        largest_entry = std::max(largest_entry, max_abs(net.factor(l).value()));
        levels.emplace_back("rho" + std::to_string(l), now.mean);
      }
      row.insert(row.end(), {{"middle", worst.middle},
                             {"off_diagonal", worst.off_diagonal},
                             {"core", core},
                             {"gap", gap},
                             {"gap_exact", exact}});
      row.insert(row.end(), levels.begin(), levels.end());
      stage.log(step, row);
    };

    stage.loop(t.iterations, [&](index_t step) {
      const Var<double> product = net.product();
      const Var<double> loss = half_squared_error(product, phi);
      const Var<double> small_loss = half_squared_error(small.core(), small_phi);
      stage.finite("train_loss", loss.item());
      stage.off_clock([&] {
        const NoGrad off;
        const double gap = std::pow(frobenius(sub(product.value(), small.product().value())), 2);
        const double exact = exact_gap(t, step, s.d);
        const double miss = std::abs(std::sqrt(gap) - std::sqrt(exact)) - round_off;
        if (exact >= 1e-20) {
          worst_gap_relative = std::max(worst_gap_relative, std::abs(gap - exact) / exact);
          worst_gap_error = std::max(worst_gap_error, 2 * miss / std::sqrt(exact));
        }
        worst_gap_excess =
            std::max(worst_gap_excess, (std::sqrt(gap) - round_off) / std::sqrt(bound));
        const bool last = step == t.iterations;
        const bool kept = is_kept(step, s.figure_iterations, last ? step : -1);
        if (step % stride == 0 || last || kept) measure(step, loss.item(), gap, exact);
        if (kept && (evolution || last || step == 0)) {
          for (int l = 1; l <= t.depth(); ++l) {
            const std::string suffix = std::to_string(l) + ".t" + std::to_string(step);
            stage.keep("w" + suffix, net.factor(l).value());
            stage.keep("core" + suffix, small.core_factor(l).value());
          }
        }
        if (evolution) svds.measure(step, net);
      });
      if (step == t.iterations) return Stage::stop;
      backward(loss);
      backward(small_loss);
      opt.step();
      small_opt.step();
      return Stage::go_on;
    });
    stage.keep("worst_gap_relative", worst_gap_relative);
    stage.keep("worst_gap_error", worst_gap_error);
    stage.keep("worst_gap_excess", worst_gap_excess);
    stage.keep("largest_entry", largest_entry);
    if (evolution) svds.keep(stage);
  });
}

const Record& run_adaptive(Run& run, const SubspaceSettings& s, const Tensor<double>& phi,
                           const Trajectory& t, bool adam) {
  return run.stage(adam ? "adam" : "rmsprop", [&](Stage& stage) {
    const DeepLinear<double> net(t.initial);
    std::unique_ptr<Optimizer<double>> opt;
    if (adam) {
      opt = std::make_unique<Adam<double>>(one_group(net.named_parameters()), s.adaptive_rate);
    } else {
      opt = std::make_unique<RmsProp<double>>(one_group(net.named_parameters()), s.adaptive_rate);
    }
    stage.track(net.named_parameters());
    for (const auto& [name, tensor] : opt->state()) stage.track(name, tensor);
    stage.track("steps", opt->counter());
    stage.loop(s.adaptive_iterations, [&](index_t step) {
      const Var<double> loss = half_squared_error(net.product(), phi);
      stage.finite("train_loss", loss.item());
      double worst = 0;
      for (int l = 1; l <= t.depth(); ++l) {
        const BlockDeviation now =
            block_deviation(in_bases(t.bases, net.factor(l).value(), l), t.width(),
                            std::numeric_limits<double>::quiet_NaN());
        worst = std::max({worst, now.middle, now.off_diagonal});
      }
      stage.log(step, {{"train_loss", loss.item()}, {"deviation", worst}});
      if (step == s.adaptive_iterations) return Stage::stop;
      backward(loss);
      opt->step();
      return Stage::go_on;
    });
  });
}

const Record& run_float(Run& run, const SubspaceSettings& s, const Tensor<double>& phi,
                        const Trajectory& t) {
  return run.stage("float32", [&](Stage& stage) {
    std::vector<Tensor<float>> initial;
    for (const auto& w : t.initial) initial.push_back(cast<float>(w));
    const Tensor<float> target = cast<float>(phi);
    const DeepLinear<float> net(initial);
    GradientDescent<float> opt(one_group(net.named_parameters(), t.weight_decay), t.eta,
                               t.momentum);
    stage.track(net.named_parameters());
    for (const auto& [name, tensor] : opt.state()) stage.track(name, tensor);
    const index_t stride = std::max<index_t>(1, s.float_iterations / s.measurements);
    stage.loop(s.float_iterations, [&](index_t step) {
      const Var<float> loss = half_squared_error(net.product(), target);
      const double value = stage.finite("train_loss", static_cast<double>(loss.item()));
      if (step % stride == 0 || step == s.float_iterations) {
        BlockDeviation worst;
        for (int l = 1; l <= t.depth(); ++l) {
          const double eps = t.eps[static_cast<std::size_t>(l - 1)];
          const BlockDeviation now =
              block_deviation(in_bases(t.bases, cast<double>(net.factor(l).value()), l), t.width(),
                              t.rho.at({step, l - 1}));
          worst.middle = std::max(worst.middle, now.middle / eps);
          worst.off_diagonal = std::max(worst.off_diagonal, now.off_diagonal / eps);
        }
        stage.log(step, {{"train_loss", value},
                         {"middle", worst.middle},
                         {"off_diagonal", worst.off_diagonal}});
      }
      if (step == s.float_iterations) return Stage::stop;
      backward(loss);
      opt.step();
      return Stage::go_on;
    });
  });
}

namespace {

Tensor<double> projector(const Tensor<double>& basis) { return matmul(basis, basis, false, true); }

/// Largest difference of the projectors on both sides' spaces.
double difference(const OuterFactors<double>& a, const OuterFactors<double>& b) {
  return std::max(max_abs(sub(projector(a.left), projector(b.left))),
                  max_abs(sub(projector(a.right), projector(b.right))));
}

/// left rightᵀ for a wide (m, n) target: from the product's gradient and O alone, against the
/// definition orth[V_h, W_1ᵀU_h/eps] on the gradient at the square W_1.
double wide_difference(index_t m, index_t n, index_t h, int depth, const Rng& rng) {
  const double eps = 0.1;
  std::vector<index_t> dims(static_cast<std::size_t>(depth) + 1, n);
  dims.back() = m;
  const DeepLinear<double> net(dims, {eps}, rng.split("wide"));
  Rng stream = rng.split("wide target");
  const Tensor<double> target = stream.normal<double>({m, n});
  Var<double> product = net.product();
  product.retain_grad();
  backward(half_squared_error(product, target));
  const Tensor<double> o = scale(product.value(), std::pow(eps, -depth));
  const OuterFactors<double> cheap = outer_factors_from_product_gradient(product.grad(), o, h);
  const Svd<double> g = svd(net.factor(1).grad());
  const Tensor<double> mixed = matmul(net.factor(1).value(), slice(g.u, 1, 0, h), true, false);
  const Tensor<double> right =
      orth(concat<double>({transpose(g.vt.rows(0, h)), scale(mixed, 1 / eps)}, 1), 2 * h);
  return max_abs(sub(matmul(cheap.left, cheap.right, false, true),
                     matmul(matmul(o, right), right, false, true)));
}

/// The same for a tall target, whose square factor is W_L: everything transposed.
double tall_difference(index_t m, index_t n, index_t h, int depth, const Rng& rng) {
  const double eps = 0.1;
  std::vector<index_t> dims(static_cast<std::size_t>(depth) + 1, m);
  dims.front() = n;
  const DeepLinear<double> net(dims, {eps}, rng.split("tall"));
  Rng stream = rng.split("tall target");
  const Tensor<double> target = stream.normal<double>({m, n});
  Var<double> product = net.product();
  product.retain_grad();
  backward(half_squared_error(product, target));
  const Tensor<double> o = scale(product.value(), std::pow(eps, -depth));
  const OuterFactors<double> cheap = outer_factors_from_product_gradient(product.grad(), o, h);
  const Svd<double> g = svd(transpose(net.factor(depth).grad()));
  const Tensor<double> mixed = matmul(net.factor(depth).value(), slice(g.u, 1, 0, h));
  const Tensor<double> left =
      orth(concat<double>({transpose(g.vt.rows(0, h)), scale(mixed, 1 / eps)}, 1), 2 * h);
  return max_abs(sub(matmul(cheap.left, cheap.right, false, true),
                     matmul(left, matmul(o, left, true, false), false, true)));
}

}  // namespace

GradientSubspace gradient_subspace(const SubspaceSettings& s, const Tensor<double>& phi,
                                   const Trajectory& t, const Rng& rng) {
  GradientSubspace out;
  double product = 1;
  for (const double eps : t.eps) product *= eps;
  out.separated = singular_values(phi).at({s.r - 1}) > 2 * product;

  const auto full = first_gradient(
      t.initial, [&](const auto& net) { return half_squared_error(net.product(), phi); });
  const OuterFactors<double> outer = outer_factors(t.initial, full, s.r);
  out.missed_right = max_abs(matmul(phi, orthogonal_complement(outer.right)));
  out.missed_left = max_abs(matmul(phi, orthogonal_complement(outer.left), true, false));
  out.full = difference(outer, outer_factors_by_intersection(t.initial, full, s.r));

  const Tensor<std::uint8_t> mask = random_index_set(s.d, s.d, 0.5, rng.split("half mask")).mask();
  const auto masked = first_gradient(t.initial, [&](const auto& net) {
    return masked_half_squared_error(net.product(), phi, mask);
  });
  out.masked = difference(outer_factors(t.initial, masked, s.rhat),
                          outer_factors_by_intersection(t.initial, masked, s.rhat));
  out.rectangular = std::max(wide_difference(s.d, s.d + s.d / 2, s.r, s.depth, rng),
                             tall_difference(s.d + s.d / 2, s.d, s.r, s.depth, rng));
  return out;
}

}  // namespace parsimony::lab
