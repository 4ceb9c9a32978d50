// parsimony merge and export: a trained adapter as weights of a model, or in another format.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/generate.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "cli/language.hpp"
#include "io/nlohmann.hpp"

namespace parsimony::cli {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Answering open_pair(const std::string& model, const std::string& adapter, const std::string& out) {
  if (adapter.empty()) throw ValueError("--adapter: expected an adapter folder; got ''");
  Answering answering(model, adapter);
  check_model_output(out, {answering.base.folder(), answering.adapter->folder});
  return answering;
}

/// A model folder, config.json last: without it a folder that a full disk cut short is no model.
/// Numbers that the format cannot hold leave no folder that was not there.
void save_model(Model<float>& model, const BaseModel& base, const TextTask* task,
                const std::string& folder, FloatFormat format) {
  const bool there = fs::exists(folder);
  try {
    make_folders(folder);
    if (base.config().type != "vit") base.tokenizer().save(folder);
    if (task != nullptr) save_task(*task, folder);
    model.save(folder, format);
  } catch (const Error&) {
    std::error_code error;
    if (!there) fs::remove_all(folder, error);
    throw;
  }
}

// --- merge --------------------------------------------------------------------------------------

struct MergeSettings {
  std::string model, adapter, out, format = "f32";
  int threads = threads_unset;
  bool json = false, quiet = false;
};

int merge(const MergeSettings& s) {
  apply_threads(s.threads);
  const FloatFormat format = float_format(s.format);
  const Answering answering = open_pair(s.model, s.adapter, s.out);
  if (!s.quiet) warn_of_fresh(answering);
  index_t adapted = 0;
  for (const auto& [name, module] : answering.model->named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<float>*>(module);
    adapted += layer != nullptr && layer->adapter() != nullptr ? 1 : 0;
  }
  save_model(*answering.model, answering.base, &answering.task, s.out, format);
  if (s.json) {
    fmt::print("{}\n", Json{{"model", s.out}, {"merged_modules", adapted}}.dump(2));
  } else {
    fmt::print("merged {} modules into {}\n", adapted, s.out);
  }
  return 0;
}

// --- export -------------------------------------------------------------------------------------

struct ExportSettings {
  std::string model, adapter, out, format;
  PeftOptions peft;
  std::optional<index_t> rank;
  std::optional<double> energy;
  int threads = threads_unset;
  bool json = false, quiet = false;
};

/// An adapter on fresh weights holds them; PEFT's format has no place for them, so they go into a
/// model folder of their own.
void save_base(const Answering& answering, const std::string& folder) {
  auto bare = answering.base.classifier(answering.task);
  const auto trained = answering.model->named_parameters();
  for (auto& [name, var] : bare->named_parameters()) {
    const auto found = std::find_if(trained.begin(), trained.end(),
                                    [&n = name](const auto& entry) { return entry.first == n; });
    if (found != trained.end()) var.assign(found->second.value());
  }
  save_model(*bare, answering.base, nullptr, folder, FloatFormat::f32);
}

void print_layers(const std::vector<PeftLayer>& layers) {
  fmt::print("{:<52} {:>12} {:>5} {:>6} {:>10}\n", "module", "shape", "rank", "of", "residual");
  for (const PeftLayer& layer : layers) {
    const std::string shape = fmt::format("{}x{}", layer.shape[0], layer.shape[1]);
    if (layer.merged) {
      fmt::print("{:<52} {:>12} stored whole, with the update in it\n", layer.name, shape);
    } else {
      fmt::print("{:<52} {:>12} {:>5} {:>6} {:>10.3g}\n", layer.name, shape, layer.rank,
                 layer.full_rank, layer.residual);
    }
  }
}

int export_peft(const ExportSettings& s, const Answering& answering) {
  std::vector<std::string> heads;
  std::copy_if(answering.extras.begin(), answering.extras.end(), std::back_inserter(heads),
               [&](const std::string& name) { return answering.model->is_head(name); });
  const bool own_base = heads.size() != answering.extras.size();
  const fs::path base = own_base ? fs::path(s.out) / "base" : fs::path(answering.base.folder());
  PeftOptions options = s.peft;
  options.base = fs::absolute(base).lexically_normal().string();
  const std::vector<PeftLayer> layers = save_peft<float>(*answering.model, s.out, heads, options);
  if (own_base) save_base(answering, options.base);
  save_task(answering.task, s.out, options.base);
  if (s.json) {
    Json modules = Json::array();
    for (const PeftLayer& l : layers) {
      modules.push_back({{"name", l.name},
                         {"shape", {l.shape[0], l.shape[1]}},
                         {"rank", l.rank},
                         {"full_rank", l.full_rank},
                         {"residual", l.residual},
                         {"merged", l.merged}});
    }
    fmt::print(
        "{}\n",
        Json{{"format", "peft"}, {"adapter", s.out}, {"base", options.base}, {"modules", modules}}
            .dump(2));
    return 0;
  }
  print_layers(layers);
  fmt::print("PEFT adapter written to {}; its base is {}\n", s.out, options.base);
  return 0;
}

/// Rows or columns of zeros up to `width`, times `factor`.
Tensor<float> padded(const Tensor<float>& a, bool columns, index_t width, float factor) {
  const index_t rows = columns ? a.dim(0) : width;
  const index_t cols = columns ? width : a.dim(1);
  Tensor<float> out = Tensor<float>::zeros({rows, cols});
  float* to = out.mutable_data();
  for (index_t i = 0; i < a.dim(0); ++i) {
    for (index_t j = 0; j < a.dim(1); ++j) to[i * cols + j] = factor * a.data()[i * a.dim(1) + j];
  }
  return out;
}

/// A PEFT folder's pairs as a native LoRA. A native folder has one rank; narrower pairs are padded
/// with zeros, and each module's scale goes into its B.
int export_native_from_peft(const ExportSettings& s, const Answering& answering) {
  const PeftFolder& peft = *answering.adapter->peft;
  struct Pair {
    Tensor<float> a, b;
    float scale = 1;
  };
  std::map<std::string, Pair> pairs;
  std::vector<std::string> names;
  index_t rank = 1;
  for (const auto& [name, module] : answering.model->named_modules()) {
    const auto* layer = dynamic_cast<Adaptable<float>*>(module);
    if (layer == nullptr || layer->adapter() == nullptr) continue;
    Pair& pair = pairs[name];
    for (const auto& [parameter, var] : layer->adapter()->named_parameters()) {
      (parameter == "A" ? pair.a : pair.b) = var.value();
    }
    pair.scale = static_cast<float>(peft.config.scale_of(name));
    rank = std::max(rank, pair.a.dim(0));
    names.push_back(name);
  }
  for (const auto& [name, pair] : pairs) {
    const index_t side = std::min(pair.a.dim(1), pair.b.dim(0));
    if (rank <= side) continue;
    throw InputError(fmt::format(
        "export: a native LoRA has one rank for all layers, here {}; '{}' has a side of {}. Cut it "
        "first: export --format peft --rank {}",
        rank, name, side, side));
  }
  const std::string targets = fmt::format("{}", fmt::join(names, ","));
  AdapterOptions options{"lora"};
  options.set("init", "paper").set("rank", rank);  // no scale beside the factors
  auto model = answering.base.classifier(answering.task);
  attach_adapters<float>(*model, targets, options, Rng(0));
  const auto read = answering.model->named_parameters();
  for (auto& [name, var] : model->named_parameters()) {
    const auto found = std::find_if(read.begin(), read.end(),
                                    [&n = name](const auto& entry) { return entry.first == n; });
    const std::size_t dot = name.rfind(".lora.");
    const auto pair = dot == std::string::npos ? pairs.end() : pairs.find(name.substr(0, dot));
    if (pair == pairs.end()) {
      var.assign(found->second.value());
    } else if (name.back() == 'A') {
      var.assign(padded(pair->second.a, false, rank, 1));
    } else {
      var.assign(padded(pair->second.b, true, rank, pair->second.scale));
    }
  }
  save_adapters<float>(*model, s.out, targets, options, answering.extras);
  save_task(answering.task, s.out, lasting_name(answering.base));
  return 0;
}

int export_native(const ExportSettings& s, const Answering& answering) {
  if (answering.adapter->peft) {
    export_native_from_peft(s, answering);
  } else {
    save_adapters<float>(*answering.model, s.out, answering.native.set, answering.native.options,
                         answering.extras);
    save_task(answering.task, s.out, lasting_name(answering.base));
  }
  if (s.json) {
    fmt::print("{}\n", Json{{"format", "native"}, {"adapter", s.out}}.dump(2));
  } else {
    fmt::print("native adapter written to {}\n", s.out);
  }
  return 0;
}

/// A decoder of any form, a file of llama2.c's too, as a Hugging Face folder.
int export_model(const ExportSettings& s) {
  check_model_output(s.out, {s.model});
  const LanguageModel model = load_language_model(s.model);
  make_folders(s.out);
  model.tokenizer->save(s.out);
  model.decoder->save(s.out);
  if (s.json) {
    fmt::print("{}\n", Json{{"format", "model"}, {"model", s.out}}.dump(2));
  } else {
    fmt::print("model folder written to {}\n", s.out);
  }
  return 0;
}

int run_export(ExportSettings& s) {
  apply_threads(s.threads);
  const bool cut = s.rank || s.energy;
  const bool adapter = !s.adapter.empty() || !s.format.empty() || cut || s.model.empty();
  if (!adapter) return export_model(s);
  if (s.format.empty()) s.format = "peft";
  if (s.format != "peft" && s.format != "native") {
    const std::string near = nearest_name(s.format, {"peft", "native"});
    throw ValueError(fmt::format("--format: expected native or peft; got '{}'{}", s.format,
                                 near.empty() ? "" : "; did you mean '" + near + "'?"));
  }
  if (s.format == "native" && cut) {
    throw ValueError("--rank, --energy: a native adapter keeps its factors; use --format peft");
  }
  // 0 stands for no limit in PeftOptions.
  if (s.rank && *s.rank < 1) {
    throw ValueError(fmt::format("--rank: expected at least 1; got {}", *s.rank));
  }
  if (s.energy && !(*s.energy > 0)) {
    throw ValueError(fmt::format("--energy: expected a share in (0, 1]; got {}", *s.energy));
  }
  s.peft.rank = s.rank.value_or(0);
  s.peft.energy = s.energy.value_or(0);
  const Answering answering = open_pair(s.model, s.adapter, s.out);
  if (!s.quiet) warn_of_fresh(answering);
  return s.format == "peft" ? export_peft(s, answering) : export_native(s, answering);
}

}  // namespace

Command merge_command() {
  auto s = std::make_shared<MergeSettings>();
  Command c;
  c.name = "merge";
  c.summary = "Add an adapter's update into the weights of a model folder";
  c.details =
      "OUT becomes a Hugging Face folder with the weights W + ΔW, the head and the vocabulary; it "
      "answers as base and adapter do, to float rounding. The adapter may be native or PEFT's.";
  c.examples = {"parsimony merge --adapter runs/first/adapter --out models/first",
                "parsimony merge --model bert-base-cased --adapter peft-adapter --out merged "
                "--format bf16"};
  c.options = {{"--adapter", "DIR", "adapter folder, native or PEFT's", &s->adapter, true},
               {"--model", "DIR", "model folder (the adapter's base)", &s->model},
               {"--out", "DIR", "model folder to write", &s->out, true},
               {"--format", "F", "of the weights: f32 (default), f16 or bf16", &s->format},
               threads_option(&s->threads),
               json_option(&s->json),
               quiet_option(&s->quiet)};
  c.action = [s] { return merge(*s); };
  return c;
}

Command export_command() {
  auto s = std::make_shared<ExportSettings>();
  Command c;
  c.name = "export";
  c.summary = "Write an adapter in PEFT's or the native format, or a decoder as a folder";
  c.details =
      "peft: a LoRA pair for each module that PEFT loads, ΔW = B·A with lora_alpha = r; a wide "
      "product (Deep LoRA, form full) is factored by an SVD, to the rank beyond which there is "
      "only "
      "rounding. --rank and --energy cut it further, and the residual says what that costs. What "
      "no pair can be (dora, mora of type 6) is refused unless it is cut so. native: every factor "
      "as it was trained; a PEFT adapter becomes a native LoRA. Without --adapter, the GPT-2 or "
      "LLaMA "
      "of --model, a llama2.c .bin too, is written as the Hugging Face folder that finetune takes.";
  c.examples = {"parsimony export --adapter runs/first/adapter --format peft --out peft-adapter",
                "parsimony export --adapter runs/first/adapter --rank 2 --out small --json",
                "parsimony export --adapter peft-adapter --format native --out native-adapter",
                "parsimony export --model stories260K.bin --out stories260k"};
  c.options = {
      {"--adapter", "DIR", "adapter folder, native or PEFT's", &s->adapter},
      {"--model", "DIR", "model folder (the adapter's base)", &s->model},
      {"--out", "DIR", "folder to write", &s->out, true},
      {"--format", "F", "peft (default) or native", &s->format},
      {"--rank", "N", "peft: largest rank (as it is)", &s->rank},
      {"--energy", "X", "peft: share of the squared singular values to keep (all)", &s->energy},
      threads_option(&s->threads),
      json_option(&s->json),
      quiet_option(&s->quiet)};
  c.action = [s] { return run_export(*s); };
  return c;
}

}  // namespace parsimony::cli
