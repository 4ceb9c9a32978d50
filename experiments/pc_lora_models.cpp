// Data and models of experiment pc-lora, see the header.
#include "pc_lora_models.hpp"

#include <parsimony/error.hpp>
#include <parsimony/finetune.hpp>
#include <parsimony/images.hpp>
#include <parsimony/vit.hpp>

#include <algorithm>
#include <cmath>

namespace parsimony::lab {

namespace {

// --- Data ---------------------------------------------------------------------------------------

index_t count_of(const std::vector<TextExample>& examples) {
  return static_cast<index_t>(examples.size());
}
index_t count_of(const EncodedExamples& examples) { return examples.size(); }

std::vector<TextExample> rows_of(const std::vector<TextExample>& examples,
                                 const std::vector<index_t>& rows) {
  std::vector<TextExample> out;
  out.reserve(rows.size());
  for (const index_t row : rows) out.push_back(examples.at(static_cast<std::size_t>(row)));
  return out;
}
EncodedExamples rows_of(const EncodedExamples& examples, const std::vector<index_t>& rows) {
  return select_rows(examples, rows);
}

/// What the settings ask for of the examples of a task on texts or images.
template <class Splits>
Splits chosen(Splits splits, const Config& c) {
  const std::string& split = c.text("split");
  if (split != "dev" && split != "tuning") {
    throw ValueError("split: expected dev or tuning; got '" + split + "'");
  }
  const Rng rng(0);
  if (split == "tuning") {
    const index_t n = count_of(splits.train);
    const std::vector<index_t> order = rng.split("tuning split").permutation(n);
    const auto held = order.begin() + std::clamp<index_t>(n / 10, 1, 1000);
    splits.dev = rows_of(splits.train, {order.begin(), held});
    splits.train = rows_of(splits.train, {held, order.end()});
  }
  const index_t most = c.integer("dev_examples", 0, 1 << 30);
  if (most > 0 && most < count_of(splits.dev)) {
    splits.dev = rows_of(splits.dev, rng.split("dev").choose(count_of(splits.dev), most));
  }
  return splits;
}

/// Noisy copies of ten patterns of 8 x 8 pixels, where the digits are not at hand.
ImageSplits generated_images() {
  ImageSplits out;
  out.task.name = "generated patterns";
  out.task.metric = "accuracy";
  for (int i = 0; i < 10; ++i) out.task.labels.push_back(std::to_string(i));
  const Rng rng = Rng(0).split("patterns");
  const Tensor<float> patterns = Rng(rng).normal<float>({10, 64});
  for (EncodedExamples* part : {&out.train, &out.dev}) {
    const index_t n = part == &out.train ? 600 : 200;
    part->pixels = rng.split(part == &out.train ? "train" : "dev").normal<float>({n, 1, 8, 8});
    float* pixel = part->pixels.mutable_data();
    for (index_t i = 0; i < n; ++i) {
      for (index_t j = 0; j < 64; ++j, ++pixel) {
        *pixel = 0.5F * *pixel + 0.5F * patterns.at({i % 10, j});
      }
      part->labels.push_back(static_cast<double>(i % 10));
      part->source.push_back(i);
    }
    part->encodings.resize(static_cast<std::size_t>(n));
  }
  return out;
}

/// Trains the model that is compressed, into a folder of the run.
Run::Member teacher(const std::string& name, const std::string& folder, const BaseModel& base,
                    const EncodedTask& task, index_t steps, double learning_rate) {
  FinetuneOptions o;
  o.method = "full";
  o.steps = steps;
  o.batch = 32;
  o.learning_rate = learning_rate;
  o.warmup = steps / 20;
  o.decay_ratio = 0;
  return {name, [&base, &task, folder, o](Stage& stage) {
            const Finetuned trained = finetune(stage, base, task, o);
            trained.model->save(folder);
            if (base.config().type == "bert") base.tokenizer().save(folder);
          }};
}

/// A small ViT with fresh weights for such images, as a folder of the run.
BaseModel fresh_vit(const Config& c, const Tensor<float>& pixels, const std::string& folder) {
  VitConfig config = VitConfig::sized("tiny", pixels.dim(2), pixels.dim(1));
  config.hidden_size = c.integer("vit_width", 8, 1 << 14);
  config.num_hidden_layers = c.integer("vit_layers", 1, 1000);
  config.num_attention_heads = 2;
  config.intermediate_size = 4 * config.hidden_size;
  config.patch_size = config.image_size / c.integer("vit_side", 1, config.image_size);
  Vit<float>(config, Rng(0).split("vit")).save(folder);
  return BaseModel(folder);
}

}  // namespace

std::vector<Family> compressed_families(Run& run) {
  const Config& c = run.config();
  const BaseModel bert(c.text("model"));
  const index_t max_length = c.integer("max_length", 8, bert.config().max_position_embeddings);
  std::vector<Family> out(2);
  for (std::size_t i = 0; i < 2; ++i) {
    out[i].key = i == 0 ? "bert" : "vit";
    out[i].steps = c.integer(out[i].key + "_steps", 1, 1 << 30);
  }
  TextTaskOptions options;
  options.data_dir = run.data_folder();
  TextSplits texts;
  ImageSplits images;
  const auto load = [&](Family& f, const auto& real, const auto& generated) {
    try {
      real();
    } catch (const MissingData& missing) {
      f.missing = missing.what();
      generated();
      run.say(f.missing + "; generated examples stand in for it");
    }
  };
  load(
      out[0], [&] { texts = load_text_task(c.text("task"), options); },
      [&] { texts = load_text_task("synthetic", options); });
  load(
      out[1], [&] { images = load_image_task(c.text("images"), run.data_folder()); },
      [&] { images = generated_images(); });
  texts = chosen(std::move(texts), c);
  images = chosen(std::move(images), c);
  const Tensor<float>& pixels = images.train.pixels;
  const std::string folder = run.folder() + "/";
  const BaseModel vit = fresh_vit(c, pixels, folder + "fresh-vit");
  const EncodedTask text_task = encode_task(bert, texts, max_length);
  const EncodedTask image_examples = image_task(vit, images);
  constexpr double bert_rate = 5e-4;
  constexpr double vit_rate = 1e-3;
  const auto records =
      run.stages("teachers", {teacher("teacher bert", folder + "teacher-bert", bert, text_task,
                                      c.integer("bert_teacher_steps", 1, 1 << 30), bert_rate),
                              teacher("teacher vit", folder + "teacher-vit", vit, image_examples,
                                      c.integer("vit_teacher_steps", 1, 1 << 30), vit_rate)});
  CompressionSource source;
  source.sequences = 1 << 30;
  source.windows = 1;
  source.model = folder + "teacher-bert";
  out[0].data = task_compression(source, texts, max_length);
  source.model = folder + "teacher-vit";
  out[1].data = image_compression(source, images);
  for (std::size_t i = 0; i < 2; ++i) {
    const TextTask& task = i == 0 ? text_task.task : image_examples.task;
    out[i].metric = task.metric;
    out[i].title = (i == 0 ? "BERT, " : "ViT, ") + task.name;
    out[i].before = records[i]->last(task.metric);
  }
  return out;
}

FreshStart::FreshStart(const CompressionData& data, std::uint64_t seed) : data_(data), seed_(seed) {
  const auto model = data.load();
  for (const auto& l : compressible_layers(*model)) replaced_.push_back(l.name + ".");
}

std::unique_ptr<Module<float>> FreshStart::load() const {
  auto model = data_.load();
  const Rng rng = Rng(seed_).split("fresh");
  for (auto& [name, var] : model->named_parameters()) {
    const Shape& shape = var.shape();
    const bool head = name.find("pooler.") != std::string::npos || name.find("classifier.") == 0;
    const double scale = head ? 1 / std::sqrt(static_cast<double>(shape[shape.rank() - 1])) : 0.02;
    const bool weight = name.size() >= 7 && name.compare(name.size() - 7, 7, ".weight") == 0;
    var.assign(shape.rank() > 1 ? rng.split(name).normal<float>(shape, scale)
               : weight         ? Tensor<float>::ones(shape)  // of a norm
                                : Tensor<float>::zeros(shape));
  }
  return model;
}

bool FreshStart::trains(const std::string& parameter) const {
  return std::none_of(replaced_.begin(), replaced_.end(), [&](const std::string& layer) {
    return parameter.compare(0, layer.size(), layer) == 0;
  });
}

}  // namespace parsimony::lab
