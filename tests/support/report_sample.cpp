// Curves with the shapes and scales of the paper's figures; see report_sample.hpp.
#include "support/report_sample.hpp"

#include <parsimony/claims.hpp>
#include <parsimony/files.hpp>

#include <cmath>
#include <limits>

namespace parsimony::sample {
namespace {

std::vector<double> steps(double first, double last, double by) {
  std::vector<double> out;
  for (double x = first; x <= last + by / 2; x += by) out.push_back(x);
  return out;
}

template <class F>
std::vector<double> map(const std::vector<double>& x, const F& f) {
  std::vector<double> out;
  for (const double v : x) out.push_back(f(v));
  return out;
}

// Recovery errors of widths 10..100 as in the benefits-of-depth figure, five seeds.
Figure width_figure() {
  Figure f;
  f.name = "width";
  f.title = "Depth and width in matrix completion";
  f.caption =
      "Left: recovery error against the width of the hidden layers; lines are means of 5 "
      "trials, bands one standard deviation. Right: iterations until the training loss is "
      "below 1e-10.";
  f.alt = "Depth 2 overfits as the width grows, depth 3 does not and becomes faster.";
  f.order = 1;
  const std::vector<double> width = steps(10, 100, 10);
  std::vector<std::vector<double>> shallow;
  std::vector<std::vector<double>> deep;
  std::vector<std::vector<double>> iterations;
  for (int seed = 0; seed < 5; ++seed) {
    const double tilt = 1 + 0.06 * (seed - 2);
    shallow.push_back(
        map(width, [&](double w) { return 1.35e-3 * tilt * (1 - std::exp(-(w - 10) / 38)); }));
    deep.push_back(map(width, [&](double) { return 2e-8; }));
    iterations.push_back(map(width, [&](double w) { return tilt * (85 + 3000 / w); }));
  }
  Panel& left = f.panel("recovery error");
  left.x_label = "width of the network";
  left.y_label = "recovery error";
  left.mean_band("L = 2", width, shallow);
  left.mean_band("L = 3", width, deep);
  Panel& right = f.panel("iterations to convergence");
  right.x_label = "width of the network";
  right.y_label = "iterations / 100";
  Series& s = right.mean_band("L = 3", width, iterations);
  s.color = 1;
  s.style = Series::solid_markers;
  return f;
}

std::vector<double> spectrum(const std::vector<double>& index, const std::vector<double>& time) {
  std::vector<double> z;
  for (const double t : time) {
    for (const double i : index) {
      const double up = 1 + (0.62 - 0.12 * i) * t / 50;
      const double down = 1 - (0.13 + 0.04 * (i - 28)) * t / 50;
      z.push_back(i <= 3 ? up : i > 27 ? down : 1 - 0.049 * t / 50);
    }
  }
  return z;
}

std::vector<double> angles(const std::vector<double>& index, const std::vector<double>& time,
                           double top, double bottom) {
  std::vector<double> z;
  for (const double t : time) {
    for (const double i : index) {
      const double grown = std::sqrt(t / 50);
      z.push_back(i <= 3   ? top * grown * (1 - 0.1 * i)
                  : i > 27 ? bottom * grown * (0.7 + 0.1 * (i - 27))
                           : 3e-8);
    }
  }
  return z;
}

Figure surface_figure(Surface::Style style) {
  Figure f;
  f.name = style == Surface::mesh ? "svd-evolution" : "svd-waterfall";
  f.title = "Evolution of the singular value decomposition of W₁";
  f.caption =
      "Singular values of the first layer over 50 iterations, and the angles of its singular "
      "vectors to those after the first iteration. The middle 24 move as one block.";
  f.order = 2;
  const std::vector<double> index = steps(1, 30, 1);
  const std::vector<double> time = style == Surface::mesh ? steps(0, 50, 1) : steps(0, 50, 2);
  const std::pair<const char*, std::vector<double>> parts[] = {
      {"singular values", spectrum(index, time)},
      {"right singular vectors", angles(index, time, 0.65, 0.45)},
      {"left singular vectors", angles(index, time, 0.45, 0.2)}};
  for (const auto& [title, z] : parts) {
    Panel& p = f.panel(title);
    p.x_label = "index";
    p.y_label = "iteration";
    p.z_label = f.panels.size() == 1 ? "σᵢ(t)" : "angle (rad)";
    p.surface(index, time, z).style = style;
  }
  return f;
}

double fall(double t, double at, double start, double end) {
  const double drop = 1 / (1 + std::exp((t - at) / 3));
  return start * std::pow(drop, 1.2) + end;
}

Figure compression_figure() {
  Figure f;
  f.name = "compression";
  f.title = "Compressed and original factorisation, matrix completion";
  f.caption =
      "Left: path of the end-to-end matrix on two principal components. Middle and right: "
      "recovery error against iterations and against seconds.";
  f.order = 3;
  const std::vector<double> t = steps(0, 200, 1);
  const std::vector<double> path = steps(0, 29, 1);
  Panel& plane = f.panel("trajectory");
  plane.x_label = "principal component 1";
  plane.y_label = "principal component 2";
  const auto px = map(path, [](double k) { return 40 * std::tanh((k - 12) / 6); });
  const auto py = map(path, [](double k) { return 18 * std::exp(-(k - 13) * (k - 13) / 40) - 6; });
  plane.trajectory("original", px, py);
  plane.trajectory("compressed, γ = 0.01", px, py);
  for (const bool seconds : {false, true}) {
    Panel& p = f.panel(seconds ? "against time" : "against iterations");
    p.x_label = seconds ? "seconds" : "iterations / 100";
    p.y_label = "recovery error";
    p.log_y = true;
    const auto clock = [&](double per_step) {
      return map(t, [&](double s) { return seconds ? s * per_step : s; });
    };
    p.line("original", clock(0.22), map(t, [](double s) { return fall(s, 120, 8e-3, 1e-13); }));
    p.dashed("compressed, γ = 0.01", clock(0.025),
             map(t, [](double s) { return fall(s, 125, 8e-3, 3e-14); }));
    p.line("compressed, γ = 0", clock(0.024),
           map(t, [](double s) { return fall(s, 118, 7.5e-3, 4.8e-4); }));
    p.series.back().style = Series::dot;
    p.horizontal(1e-9, "tolerance");
  }
  return f;
}

// Curves everywhere: the legend finds no place between them.
Figure crowded_figure() {
  Figure f;
  f.name = "crowded";
  f.title = "Many curves";
  f.caption = "Residuals of ten seeds fill the panel, so that the legend stands below it.";
  f.order = 5;
  f.size = Figure::column;
  const std::vector<double> t = steps(0, 60, 1);
  for (const double phase : {0.0, 1.3}) {
    Panel& p = f.panel(phase > 0 ? "dashed" : "solid");
    p.x_label = "iterations";
    p.y_label = "residual";
    for (int k = 0; k < 10; ++k) {
      Series& s = p.line(k < 3 ? "seed_" + std::to_string(k) : "", t,
                         map(t, [&](double x) { return std::sin(x / (2 + 0.3 * k) + phase * k); }));
      if (phase > 0) s.style = Series::dash;
    }
  }
  return f;
}

Figure bars_figure() {
  Figure f;
  f.name = "ranks_and_gamma";
  f.title = "Ranks, stability, spectrum, empty";
  f.caption =
      "Counts of numerical ranks; iterations over the stability number, with the limit 2; "
      "a spectrum with exact zeros on a log axis; a panel that has nothing to draw.";
  f.order = 4;
  Panel& ranks = f.panel("numerical rank of 74 updates");
  ranks.x_label = "rank";
  ranks.y_label = "matrices";
  ranks.categories = {"0", "1", "2", "3", "4", "5", "6", "7", "8+"};
  ranks.bars("vanilla LoRA", steps(0, 8, 1), {0, 0, 0, 0, 0, 0, 0, 0, 74});
  ranks.bars("Deep LoRA", steps(0, 8, 1), {40, 4, 13, 5, 6, 2, 0, 2, 2});
  Panel& gamma = f.panel("γ and stability");
  gamma.x_label = "η p (L σ₁^{4/3} + 2 γ σ₁²)";
  gamma.y_label = "iterations / 100";
  Series& p =
      gamma.points("converged", {1.70, 1.72, 1.74, 1.78, 1.88, 1.97}, {200, 109, 78, 66, 66, 76});
  p.low = map(p.y, [](double y) { return 0.93 * y; });
  p.high = map(p.y, [](double y) { return 1.07 * y; });
  gamma.vertical(2, "limit 2");
  Panel& spectrum = f.panel("singular values of W_L_{…W_1} & <friends>");
  spectrum.x_label = "index";
  spectrum.y_label = "σ_i";
  spectrum.log_x = true;
  spectrum.log_y = true;
  const std::vector<double> index = steps(1, 100, 1);
  spectrum.points("gradient_descent", index, map(index, [](double i) {
                    return i <= 10 ? 60 / i : i > 90 ? 0 : 1e-4;
                  }));
  spectrum.line("Adam's", index, map(index, [](double i) {
                  return i == 40 ? std::numeric_limits<double>::quiet_NaN() : 30 * std::exp(-i / 9);
                }));
  Panel& empty = f.panel("diverged run");
  empty.x_label = "iterations";
  empty.y_label = "loss";
  empty.line("loss", {0, 1}, {std::nan(""), std::nan("")});
  return f;
}

const char* const config = R"({
  "d": 1000,
  "r": 5,
  "depth": 3,
  "eps": 0.001,
  "eta_sum": 0.005,
  "gamma": [0.01, 0],
  "note": "<script>alert(1)</script>",
  "seed": 0
})";

const char* const environment = R"({
  "version": "0.1.0",
  "git_commit": null,
  "compiler": "gcc 12.2.0",
  "build": "release, native",
  "blas": "OpenBLAS 0.3.21",
  "threads": 2,
  "cpu": "Example CPU @ 2.50GHz",
  "cpu_features": ["avx2", "fma"],
  "date": "2026-01-31T12:00:00Z"
})";

}  // namespace

std::vector<Figure> figures() {
  return {width_figure(),
          surface_figure(Surface::mesh),
          surface_figure(Surface::waterfall),
          compression_figure(),
          bars_figure(),
          crowded_figure()};
}

void write_runs(const std::string& out) {
  const std::string full = out + "/completion-compression";
  make_folders(full);
  write_file_atomically(full + "/config.json", config);
  write_file_atomically(full + "/environment.json", environment);
  std::string metrics = "series,step,seconds,train_loss,recovery\n";
  for (int i = 0; i <= 20; ++i) {
    metrics +=
        "original," + std::to_string(1000 * i) + "," + std::to_string(2 * i) + ",0.02,0.008\n";
  }
  write_file_atomically(full + "/metrics.csv", metrics);
  write_file_atomically(full + "/arrays.safetensors", "bytes");
  write_claims(
      full + "/claims.json",
      {{"M3",
        "With γ = 0.01 the compressed run reaches the recovery error of the original run in at "
        "most 1.10 times its iterations and a tenth of its time.",
        "section 2.5", "iterations(compressed) / iterations(original) <= 1.10 and time ratio >= 10",
        "1.05 × its, 19–21 × faster", "1.049 × its, 20.3 × faster", Claim::holds},
       {"M4", "Iterations do not depend on the assumed rank.", "section 2.6", "spread <= 5%",
        "≈ 195", "195, 231 (18%)", Claim::fails},
       {"M2<b>", "Both losses fall to < 1e-10 at the same checkpoint.", "section 2.4",
        "same checkpoint", "101 × 200", "preset quick has d = 200", Claim::not_run}});
  for (const Figure& f : figures()) write_figure(full, f);

  const std::string missing = out + "/movielens";
  make_folders(missing);
  write_file_atomically(missing + "/config.json", "{\"seed\": 1}");
  write_file_atomically(missing + "/environment.json", environment);
  write_claims(missing + "/claims.json",
               {{"ML", "The compressed factorisation is faster on real ratings.", "", "", "",
                 "u1.base is missing", Claim::not_run}});

  const std::string damaged = out + "/damaged <script> & odd";
  make_folders(damaged);
  write_file_atomically(damaged + "/config.json", "{\"seed\": ");
  write_file_atomically(damaged + "/claims.json", "[{\"id\": \"T1\"}]");
  write_file_atomically(damaged + "/metrics.csv", "step,seconds\n1\n");
  write_file_atomically(damaged + "/empty.gp", "# title: not drawn\n");
}

}  // namespace parsimony::sample
