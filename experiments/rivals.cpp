#include "rivals.hpp"

#include <parsimony/error.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "trials.hpp"

namespace parsimony::lab {

/// A method as the tables name it.
struct Rivals::Kind {
  const char* name;
  const char* label;
  const char* method;
  std::map<std::string, Setting> fixed;  // options that make it this one
  const char* knob;                      // the option that its count of numbers depends on
  index_t published;                     // its authors' value of the knob
  std::map<std::string, Setting> published_options;
  double multiple;  // of LoRA's rate; 0: the lab's rates for vanilla and Deep LoRA
  double tuned;     // rate of small models
};

namespace {

const std::vector<Rivals::Kind>& kinds() {
  // Ranks, scalings and rates of the authors' code: RoBERTa-base for LoRA (which rsLoRA, LoRA+ and
  // DoRA change in one thing), VeRA and LoRA-XS, the library's example for OLoRA (and PiSSA, which
  // is as large), GPT-2 M for NOLA, LLaMA-2 7B for MoRA.
  static const std::vector<Rivals::Kind> all = {
      {"vanilla", "vanilla LoRA", "lora", {}, "rank", 8, {}, 0, 1e-3},
      {"lora",
       "LoRA (PEFT)",
       "lora",
       {{"init", std::string("peft")}},
       "rank",
       8,
       {{"alpha", 16.0}},
       1,
       2e-3},
      {"rslora", "rsLoRA", "rslora", {}, "rank", 8, {{"alpha", 16.0}}, 1, 2e-3},
      {"lora-plus", "LoRA+", "lora-plus", {}, "rank", 8, {{"alpha", 16.0}}, 1, 5e-4},
      {"dora", "DoRA", "dora", {}, "rank", 8, {{"alpha", 16.0}}, 1, 2e-3},
      {"pissa", "PiSSA", "pissa", {}, "rank", 32, {{"alpha", 16.0}}, 1.0 / 3, 1e-3},
      {"olora", "OLoRA", "olora", {}, "rank", 32, {{"alpha", 16.0}}, 1.0 / 3, 3e-3},
      {"mora", "MoRA", "mora", {}, "rank", 8, {}, 1, 6e-3},
      {"vera", "VeRA", "vera", {}, "rank", 256, {}, 10, 6e-2},
      {"lora-xs", "LoRA-XS", "lora-xs", {}, "rank", 16, {{"alpha", 16.0}}, 2, 1.2e-2},
      {"nola", "NOLA", "nola", {}, "bases", 512, {}, 10, 6e-3},
      {"deep", "Deep LoRA", "deep-lora", {{"form", std::string("narrow")}}, "rank", 8, {}, 0, 6e-3},
      {"deep-compressed",
       "Deep, compressed",
       "deep-lora",
       {{"form", std::string("compressed")}},
       "rank",
       8,
       {},
       0,
       6e-2}};
  return all;
}

constexpr index_t paper_width = 512;
constexpr double wide_lora_rate = 5e-4;

bool counts_bases(const Rivals::Kind& kind) { return kind.knob == std::string("bases"); }

}  // namespace

std::vector<RivalMethod> rival_methods(index_t rank) {
  std::vector<RivalMethod> all;
  for (const Rivals::Kind& kind : kinds()) {
    all.push_back({kind.name, kind.label, {kind.method, kind.fixed}});
    all.back().options.set("rank", rank);
  }
  return all;
}

std::vector<AdaptedShape> adapted_shapes(const BaseModel& base, const std::string& targets) {
  const auto model = base.classifier(TextTask());
  std::vector<AdaptedShape> shapes;
  for (const auto& target : adapter_targets<float>(*model, targets)) {
    const Tensor<float>& w = target.layer->weight.value();
    shapes.push_back({w.dim(target.rows_are_inputs ? 0 : 1), w.dim(target.rows_are_inputs ? 1 : 0),
                      target.rows_are_inputs});
  }
  return shapes;
}

index_t trained_numbers(const AdapterOptions& options, const AdaptedShape& shape) {
  const std::string& method = options.method;
  if (shape.embedding && !adapter_info(method).embeddings) return 0;
  const Config c = adapter_config(options);
  const index_t sides = shape.in + shape.out;
  if (method == "nola") return 2 * c.integer("bases");
  const index_t r = c.integer("rank");
  if (method == "lora-xs") return r * r;
  if (method == "vera") return r + shape.out;
  if (method == "dora") return r * sides + shape.out;
  if (method == "mora") {
    auto side = static_cast<index_t>(std::llround(std::sqrt(static_cast<double>(sides * r))));
    if (c.integer("mora_type") == 6) side -= side % 2;
    return side * side;
  }
  if (method == "deep-lora") {
    const index_t depth = c.integer("depth");
    if (c.text("form") == "compressed") return r * sides + depth * r * r;
    const index_t width = c.text("form") == "full" ? std::min(shape.in, shape.out) : r;
    return width * sides + (depth - 2) * width * width;
  }
  return r * sides;
}

index_t trained_numbers(const AdapterOptions& options, const std::vector<AdaptedShape>& shapes) {
  index_t total = 0;
  for (const AdaptedShape& shape : shapes) total += trained_numbers(options, shape);
  return total;
}

void declare_rivals(Config& c, const LanguageDefaults& defaults) {
  declare_language(c, defaults);
  c.declare("rate_factor", 1.0, "factor on every method's learning rate: what rates are tuned by");
}

Rivals::Rivals(const Config& config, const LanguageLab& lab)
    : config_(config),
      lab_(lab),
      shapes_(adapted_shapes(lab.base(), config.text("targets"))),
      lora_rate_(config.real("lr", 0, 1e3)) {
  smallest_ = shapes_.front().in;
  for (const AdaptedShape& s : shapes_) smallest_ = std::min({smallest_, s.in, s.out});
  tuned_ = lora_rate_ == 0 && lab.base().config().hidden_size < paper_width;
  if (lora_rate_ > 0) return;
  lora_rate_ = wide_lora_rate;
  for (const Kind& kind : kinds()) {
    if (tuned_ && kind.name == std::string("lora")) lora_rate_ = kind.tuned;
  }
}

double Rivals::rate(const Kind& kind) const {
  if (kind.multiple > 0) return kind.multiple * lora_rate_;
  const LanguageRates& rates = lab_.rates();
  if (kind.method == std::string("lora")) return rates.vanilla;
  return std::get<std::string>(kind.fixed.at("form")) == "compressed" ? rates.inner : rates.narrow;
}

double Rivals::tuned_rate(const Kind& kind) const { return tuned_ ? kind.tuned : rate(kind); }

Rival Rivals::make(const Kind& kind, index_t value, double rate) const {
  Rival rival{kind.name, kind.label, lab_.options("lora", 0, 0)};
  FinetuneOptions& o = rival.options;
  o.method = kind.method;
  o.adapter = {kind.method, kind.fixed};
  if (o.method == "deep-lora") {
    const AdapterOptions deep =
        lab_.options(std::get<std::string>(kind.fixed.at("form")), 0, 0).adapter;
    o.adapter.set("eps", deep.values.at("eps")).set("gamma", deep.values.at("gamma"));
  }
  o.adapter.set(kind.knob, value);
  o.learning_rate = rate * config_.real("rate_factor", 1e-6, 1e6);
  return rival;
}

std::vector<Rival> Rivals::at_rank(index_t rank) const {
  std::vector<Rival> all;
  for (const Kind& kind : kinds()) {
    all.push_back(make(kind, rank, tuned_rate(kind)));
    if (!counts_bases(kind)) continue;
    all.back().options.adapter = {kind.method, kind.fixed};
    all.back().options.adapter.set("rank", rank);
  }
  Rival wide = all.back();
  wide.name = "deep-full";
  wide.label = "Deep, full width";
  wide.options = lab_.options("full", 0, 0);
  wide.options.adapter.method = "deep-lora";
  wide.options.learning_rate *= config_.real("rate_factor");
  all.push_back(wide);
  return all;
}

Rival Rivals::next_to(const std::string& name, index_t numbers) const {
  for (const Kind& kind : kinds()) {
    if (kind.name != name) continue;
    const bool bases = counts_bases(kind);
    const index_t least = name == "deep-compressed" ? 2 : 1;
    const index_t most = bases ? std::max<index_t>(1, numbers) : smallest_;
    Rival best;
    double nearest = -1;
    for (index_t value = least; value <= most; value += least) {
      Rival rival = make(kind, value, tuned_rate(kind));
      if (bases) rival.options.adapter.set("rank", std::min(smallest_, config_.integer("rank")));
      const index_t own = trained_numbers(rival.options.adapter, shapes_);
      const double far = std::abs(static_cast<double>(own - numbers));
      if (nearest >= 0 && far >= nearest) {
        if (own > numbers) break;  // counts only grow
        continue;
      }
      nearest = far;
      best = rival;
    }
    return best;
  }
  throw ValueError("unknown method '" + name + "'");
}

std::vector<Rival> Rivals::at_budget(index_t rank) const {
  const index_t budget = trained_numbers(AdapterOptions{"lora"}.set("rank", rank), shapes_);
  std::vector<Rival> all;
  for (const Kind& kind : kinds()) all.push_back(next_to(kind.name, budget));
  return all;
}

std::vector<Rival> Rivals::as_published() const {
  std::vector<Rival> all;
  for (const Kind& kind : kinds()) {
    const index_t value = counts_bases(kind) ? kind.published : std::min(smallest_, kind.published);
    all.push_back(make(kind, value, rate(kind)));
    for (const auto& [key, setting] : kind.published_options) {
      all.back().options.adapter.set(key, setting);
    }
  }
  return all;
}

std::vector<Rival> Rivals::anchors() const {
  const double factor = config_.real("rate_factor");
  Rival head{"head", "head alone", lab_.options("lora", 0, 0)};
  head.options.method = "head";
  head.options.adapter = {};
  Rival full = head;
  full.name = "full";
  full.label = "all weights";
  full.options.method = "full";
  head.options.learning_rate = 1e-3 * factor;
  full.options.learning_rate = factor * (tuned_ ? 1e-3 : 2e-5);
  return {head, full};
}

FinetuneOptions with_run(const Rival& rival, index_t samples, std::uint64_t seed) {
  FinetuneOptions o = rival.options;
  o.samples = samples;
  o.seed = seed;
  return o;
}

SavedAdapters::SavedAdapters(Model<float>& model, const FinetuneOptions& options,
                             const std::string& folder)
    : model_(model), folder_(folder) {
  std::filesystem::remove_all(folder);  // what a killed run left there would be counted
  std::filesystem::create_directories(folder);
  save_adapters<float>(model, folder, options.targets, adapter_options(options), {});
}

SavedAdapters::~SavedAdapters() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

index_t SavedAdapters::bytes() const {
  std::uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder_)) bytes += file.file_size();
  return static_cast<index_t>(bytes);
}

bool SavedAdapters::come_back(Model<float>& fresh) const {
  const NoGrad no_grad;
  load_adapters<float>(fresh, folder_);
  const auto before = adapters_of(model_);
  const auto after = adapters_of(fresh);
  if (before.size() != after.size()) return false;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const Tensor<float> a = before[i].second->delta();
    const Tensor<float> b = after[i].second->delta();
    if (!std::equal(a.begin(), a.end(), b.begin(), b.end())) return false;
  }
  return true;
}

namespace {

double mean_between(const std::vector<double>& x, std::size_t first, std::size_t last) {
  return mean_of({x.begin() + static_cast<long>(first), x.begin() + static_cast<long>(last)});
}

std::size_t part_of(const std::vector<double>& x, double share) {
  return std::max<std::size_t>(1, static_cast<std::size_t>(share * static_cast<double>(x.size())));
}

}  // namespace

double early_loss(const Record& record, double share) {
  const std::vector<double> loss = record.series("train_loss");
  return mean_between(loss, 0, part_of(loss, share));
}

double late_loss(const Record& record, double share) {
  const std::vector<double> loss = record.series("train_loss");
  return mean_between(loss, loss.size() - part_of(loss, share), loss.size());
}

}  // namespace parsimony::lab
