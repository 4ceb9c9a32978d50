// parsimony merge, export and inspect: one adapter in every format answers alike; adapters that
// PEFT wrote; what is refused.
#include <parsimony/files.hpp>
#include <parsimony/linalg.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/safetensors.hpp>

#include <cmath>
#include <filesystem>

#include <sys/mount.h>

#include "cli/language_models.hpp"
#include "io/nlohmann.hpp"

using namespace parsimony::testing;
using namespace parsimony;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

json json_of(const std::string& path) { return json::parse(read_file(path)); }

/// Trains an adapter away from its start and returns its folder.
std::string trained(const TempFolder& folder, const std::string& name,
                    std::vector<std::string> more) {
  more.insert(more.end(), {"--steps", "3", "--lr", "0.01"});
  done(quick_finetune(folder / name, more));
  return folder / name + "/adapter";
}

/// A folder as PEFT writes it for query and value of both layers, r 4, and the weights that it
/// means.
struct PeftCase {
  TempFolder folder;
  std::string path = folder / "peft";
  json config = {{"peft_type", "LORA"},
                 {"task_type", "SEQ_CLS"},
                 {"r", 4},
                 {"lora_alpha", 8},
                 {"inference_mode", true},
                 {"target_modules", {"query", "value"}},
                 {"some_key_of_a_newer_version", 3}};
  TensorMap tensors;

  PeftCase() {
    Rng rng(3);
    for (const std::string layer : {"0", "1"}) {
      for (const std::string which : {"query", "value"}) {
        const std::string name =
            "base_model.model.bert.encoder.layer." + layer + ".attention.self." + which;
        tensors.set(name + ".lora_A.weight", rng.normal<float>({4, 128}, 0.1));
        tensors.set(name + ".lora_B.weight", rng.normal<float>({128, 4}, 0.1));
      }
    }
    tensors.set("base_model.model.classifier.weight", rng.normal<float>({3, 128}, 0.5));
    tensors.set("base_model.model.classifier.bias", rng.normal<float>({3}, 0.5));
    tensors.set("base_model.model.bert.pooler.dense.weight", rng.normal<float>({128, 128}, 0.1));
    tensors.set("base_model.model.bert.pooler.dense.bias", rng.normal<float>({128}, 0.1));
    config["modules_to_save"] = {"pooler"};  // PEFT adds the classifier by itself
    write();
  }
  void write() const {
    fs::create_directories(path);
    write_raw(path + "/adapter_config.json", config.dump());
    save_safetensors(path + "/adapter_model.safetensors", tensors);
  }
  std::vector<std::vector<double>> answers() const {
    return predicted({"--model", language_fixture() / "model", "--adapter", path});
  }
  /// Of a model whose weights have s B A added by hand.
  std::vector<std::vector<double>> expected(double s) const {
    const std::string base = language_fixture() / "model/model";
    const std::string merged = folder / "by-hand";
    fs::create_directories(merged);
    TensorMap weights = load_safetensors(base + "/model.safetensors");
    for (const std::string& name : tensors.names()) {
      const std::string plain = name.substr(std::string("base_model.model.").size());
      const std::size_t at = plain.find(".lora_A.weight");
      if (plain.find(".lora_") == std::string::npos) {
        weights.set(plain, tensors.get_as<float>(name));
      } else if (at != std::string::npos) {
        const std::string module = plain.substr(0, at);
        const auto a = tensors.get_as<float>(name);
        const auto b = tensors.get_as<float>("base_model.model." + module + ".lora_B.weight");
        const auto w = weights.get_as<float>(module + ".weight");
        weights.set(module + ".weight", add(w, scale(matmul(b, a), s)));
      }
    }
    save_safetensors(merged + "/model.safetensors", weights);
    json c = json_of(base + "/config.json");
    c["id2label"] = {{"0", "a"}, {"1", "b"}, {"2", "c"}};
    c.erase("label2id");
    write_raw(merged + "/config.json", c.dump());
    fs::copy_file(base + "/vocab.txt", merged + "/vocab.txt", fs::copy_options::overwrite_existing);
    return predicted({"--model", merged});
  }
  void check_refused(const std::string& message) const {
    write();
    refused({"predict", "--model", language_fixture() / "model", "--adapter", path, "--input",
             language_fixture() / "in.tsv"},
            message);
  }
};

}  // namespace

TEST_CASE("adapters: native, PEFT's and merged answer alike") {
  const TempFolder folder;
  const std::vector<std::pair<std::string, std::vector<std::string>>> methods = {
      {"lora", {"--method", "lora"}},
      {"peft-lora", {"--method", "lora", "--init", "peft", "--alpha", "12", "--train-head"}},
      {"narrow", {"--eps", "0.2"}},
      {"full", {"--form", "full"}},
      {"compressed", {"--form", "compressed", "--eps", "0.2", "--targets", "attention-mlp"}},
      {"head", {"--method", "head"}}};
  for (const auto& [name, options] : methods) {
    INFO(name);
    const std::string native = trained(folder, name, options);
    const auto answers = predicted({"--adapter", native});
    const std::string merged = folder / name + "-merged";
    done({"merge", "--adapter", folder / name, "--out", merged});
    CHECK(largest_difference(answers, predicted({"--model", merged})) < 3e-6);
    const std::string peft = folder / name + "-peft";
    if (name == "head") {
      refused({"export", "--adapter", native, "--out", peft}, "only its head was trained");
      CHECK_FALSE(fs::exists(peft));
      continue;
    }
    done({"export", "--adapter", native, "--format", "peft", "--out", peft});
    CHECK(largest_difference(answers, predicted({"--adapter", peft})) < 3e-6);
    const std::string back = folder / name + "-native";
    done({"export", "--adapter", peft, "--format", "native", "--out", back});
    CHECK(largest_difference(answers, predicted({"--adapter", back})) < 3e-6);
    CHECK(json_of(back + "/adapter_config.json")["method"] == "lora");
    done({"export", "--adapter", native, "--format", "native", "--out", folder / name + "-copy"});
    CHECK(read_file(folder / name + "-copy/adapter_model.safetensors") ==
          read_file(native + "/adapter_model.safetensors"));
    CHECK(answers != predicted({"--model", language_fixture() / "model"}));
  }
}

TEST_CASE("export: a PEFT folder says what PEFT needs") {
  const TempFolder folder;
  const std::string native = trained(folder, "run", {"--eps", "0.2"});
  const json printed =
      json::parse(done({"export", "--adapter", native, "--out", folder / "peft", "--json"}).out);
  CHECK(printed["modules"].size() == 14);
  const json c = json_of(folder / "peft/adapter_config.json");
  CHECK(c["peft_type"] == "LORA");
  CHECK(c["task_type"] == "SEQ_CLS");
  CHECK(c["r"] == 8);
  CHECK(c["lora_alpha"] == c["r"]);
  CHECK(c["rank_pattern"].empty());
  CHECK(c["use_rslora"] == false);
  CHECK(c["fan_in_fan_out"] == false);
  CHECK(c["bias"] == "none");
  CHECK(c["init_lora_weights"] == true);
  // A pooler that is stored whole has its update in it: PEFT does one or the other.
  CHECK(c["modules_to_save"] == json({"classifier", "pooler"}));
  CHECK(c["target_modules"].size() == 13);
  CHECK(fs::path(c["base_model_name_or_path"].get<std::string>()) ==
        fs::path(language_fixture() / "model/model"));
  const TensorMap t = load_safetensors(folder / "peft/adapter_model.safetensors");
  CHECK(t.size() == 2 * 13 + 4);
  const std::string root = "base_model.model.bert.";
  CHECK(t.shape(root + "encoder.layer.1.intermediate.dense.lora_A.weight") == Shape{8, 128});
  CHECK(t.shape(root + "encoder.layer.1.intermediate.dense.lora_B.weight") == Shape{512, 8});
  const index_t tokens = t.shape(root + "embeddings.word_embeddings.lora_embedding_A")[1];
  CHECK(t.shape(root + "embeddings.word_embeddings.lora_embedding_A") == Shape{8, tokens});
  CHECK(t.shape(root + "embeddings.word_embeddings.lora_embedding_B") == Shape{128, 8});
  CHECK(t.shape("base_model.model.classifier.weight") == Shape{2, 128});
  CHECK(t.shape(root + "pooler.dense.weight") == Shape{128, 128});
  CHECK(t.metadata.at("format") == "pt");

  refused({"export", "--adapter", native, "--out", native}, "is what is read");
  refused({"export", "--adapter", native, "--out", folder / "x", "--format", "pfet"},
          "did you mean 'peft'?");
  refused({"export", "--adapter", native, "--out", folder / "x", "--rank", "-1"}, "at least 1");
  refused({"export", "--adapter", native, "--out", folder / "x", "--energy", "1.5"}, "(0, 1]");
  refused(
      {"export", "--adapter", native, "--out", folder / "x", "--format", "native", "--rank", "2"},
      "--format peft");
  CHECK_FALSE(fs::exists(folder / "x"));
}

TEST_CASE("export: what is cut off is what the residual says, and ranks may differ") {
  const TempFolder folder;
  const std::string native = trained(folder, "run", {"--eps", "0.2", "--targets", "query,value"});
  const json spectra = json::parse(done({"inspect", native, "--json"}).out)["updates"];
  REQUIRE(spectra.size() == 4);
  const auto residual = [&](std::size_t module, std::size_t kept) {
    double rest = 0;
    double all = 0;
    const json& s = spectra[module]["singular_values"];
    for (std::size_t i = 0; i < s.size(); ++i) {
      const double square = s[i].get<double>() * s[i].get<double>();
      all += square;
      if (i >= kept) rest += square;
    }
    return std::sqrt(rest / all);
  };
  const json cut = json::parse(
      done({"export", "--adapter", native, "--rank", "3", "--out", folder / "cut", "--json"}).out);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(cut["modules"][i]["rank"] == 3);
    CHECK(cut["modules"][i]["full_rank"] == 8);
    CHECK(std::abs(cut["modules"][i]["residual"].get<double>() - residual(i, 3)) < 1e-5);
  }
  const json some = json::parse(
      done({"export", "--adapter", native, "--energy", "0.7", "--out", folder / "some", "--json"})
          .out);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto rank = some["modules"][i]["rank"].get<std::size_t>();
    CHECK(residual(i, rank) <= std::sqrt(0.3) + 1e-6);
    CHECK(residual(i, rank - 1) > std::sqrt(0.3) - 1e-6);
  }
  // Ranks that differ are in the patterns, and read back.
  json config = json_of(folder / "some/adapter_config.json");
  CHECK(config["rank_pattern"] == config["alpha_pattern"]);
  done({"merge", "--adapter", folder / "some", "--out", folder / "merged"});
  CHECK(largest_difference(predicted({"--adapter", folder / "some"}),
                           predicted({"--model", folder / "merged"})) < 3e-6);
}

TEST_CASE("export: an adapter on fresh weights takes its base along") {
  const TempFolder folder;
  done({"finetune", "--model", "scratch:tiny", "--train", language_fixture() / "train.tsv",
        "--targets", "query-value", "--steps", "1", "--quiet", "--out", folder / "run"});
  const auto answers = predicted({"--model", "scratch:tiny", "--adapter", folder / "run"});
  CHECK(answers == predicted({"--adapter", folder / "run"}));
  done({"export", "--adapter", folder / "run", "--out", folder / "peft"});
  CHECK(largest_difference(answers, predicted({"--adapter", folder / "peft"})) < 3e-6);
  CHECK(largest_difference(answers, predicted({"--model", folder / "peft/base", "--adapter",
                                               folder / "peft"})) < 3e-6);
}

TEST_CASE("PEFT's folders: scales, patterns and defaults") {
  PeftCase c;
  CHECK(largest_difference(c.answers(), c.expected(2)) < 3e-6);  // alpha / r
  CHECK(c.answers().front().size() == 3);
  c.config["use_rslora"] = true;  // alpha / √r
  c.write();
  CHECK(largest_difference(c.answers(), c.expected(4)) < 3e-6);
  c.config["use_rslora"] = false;
  c.config["alpha_pattern"] = {{"self.query", 1.0}, {"layer.\\d.attention.self.value", 1}};
  c.write();
  CHECK(largest_difference(c.answers(), c.expected(0.25)) < 3e-6);
  c.config["alpha_pattern"] = json::object();
  // Missing keys have PEFT's defaults: query and value, r 8, alpha 8; here the pattern says r 4.
  c.config.erase("target_modules");
  c.config.erase("lora_alpha");
  c.config.erase("r");
  c.config["rank_pattern"] = {{".*self\\..*", 4}};
  c.write();
  CHECK(largest_difference(c.answers(), c.expected(2)) < 3e-6);
  c.config.erase("rank_pattern");
  c.check_refused("lora_A.weight is (4, 128), expected (8, 128)");
  // A pattern on whole names, and half precision.
  c.config["r"] = 4;
  c.config["target_modules"] = ".*\\.attention\\.self\\.(query|value)";
  for (const std::string& name : c.tensors.names()) {
    c.tensors.set_narrow(name, c.tensors.get_as<float>(name), FloatFormat::bf16);
  }
  c.write();
  const TensorMap rounded = load_safetensors(c.path + "/adapter_model.safetensors");
  for (const std::string& name : rounded.names()) c.tensors.set(name, rounded.get_as<float>(name));
  CHECK(largest_difference(c.answers(), c.expected(2)) < 3e-6);
}

TEST_CASE("PEFT's folders: what does not fit is an error that lists it") {
  const std::string module = "base_model.model.bert.encoder.layer.0.attention.self.query";
  {
    PeftCase c;
    c.tensors.set(module + ".lora_magnitude_vector", Tensor<float>::ones({128}));
    c.check_refused("lora_magnitude_vector is not in the model");
  }
  {
    PeftCase c;
    c.tensors.set("base_model.model.bert.encoder.layer.7.attention.self.query.lora_A.weight",
                  Tensor<float>::ones({4, 128}));
    c.check_refused("layer.7.attention.self.query.lora_A.weight is for no layer of the model");
  }
  {
    PeftCase c;
    c.config["target_modules"] = {"query", "value", "key"};
    c.check_refused("layer.0.attention.self.key has no lora_A and lora_B");
    c.config["target_modules"] = {"query"};
    c.check_refused("that target_modules do not name");
    c.config["target_modules"] = {"query", "value"};
    c.config["layers_to_transform"] = {0};
    c.check_refused(
        "layer.1.attention.self.query.lora_A.weight is of a module that target_modules");
  }
  {
    PeftCase c;
    c.config["modules_to_save"] = nullptr;
    c.check_refused("pooler.dense.bias is not among modules_to_save");
    c.config["modules_to_save"] = {"pooler"};
    for (const char* key : {"use_dora", "lora_bias"}) {
      c.config[key] = true;
      c.check_refused(std::string(key) + " is not supported");
      c.config.erase(key);
    }
    c.config["init_lora_weights"] = "pissa_niter_16";
    c.check_refused("convert it to plain LoRA");
    c.config["init_lora_weights"] = true;
    c.config["r"] = "four";
    c.check_refused("r: expected a whole number; got \"four\"");
    c.config["r"] = 4.5;
    c.check_refused("r: expected a whole number; got 4.5");
    c.config["r"] = 4;
    c.config["target_modules"] = "((query";
    c.check_refused("is no regular expression");
    c.config["peft_type"] = "IA3";
    c.check_refused("peft_type: expected LORA; got 'IA3'");
  }
  PeftCase c;
  fs::rename(c.path + "/adapter_model.safetensors", c.path + "/adapter_model.bin");
  refused({"predict", "--adapter", c.path, "--input", language_fixture() / "in.tsv"},
          "a pickle can run code");
}

TEST_CASE("adapters: one for another model is refused") {
  const TempFolder folder;
  const std::string native = trained(folder, "run", {"--eps", "0.2"});
  done({"export", "--adapter", native, "--out", folder / "peft"});
  // The same sizes, other weights.
  fs::copy(language_fixture() / "model/model", folder / "other");
  TensorMap weights = load_safetensors(folder / "other/model.safetensors");
  const std::string name = "bert.encoder.layer.0.output.dense.weight";
  weights.set(name, scale(weights.get_as<float>(name), 1.0001));
  save_safetensors(folder / "other/model.safetensors", weights);
  for (const std::string& adapter : {native, folder / "peft"}) {
    const std::vector<std::string> base = {
        "predict", "--adapter", adapter, "--input", language_fixture() / "in.tsv", "--model"};
    auto with_other = base;
    with_other.push_back(folder / "other");
    refused(with_other, "an adapter for another model: its base had other weights");
    auto with_tiny = base;
    with_tiny.push_back("tiny-en");
    refused(with_tiny, "an adapter for another model");
  }
  refused({"predict", "--adapter", folder / "none"}, "expected an adapter folder");
  // A base that has gone.
  json task = json_of(native + "/task.json");
  task["base"] = folder / "gone";
  write_raw(native + "/task.json", task.dump());
  refused({"predict", "--adapter", native}, "name it with --model");
}

TEST_CASE("adapters: the shipped base is found beside a folder of its name") {
  const TempFolder folder;
  done({"finetune", "--task", "synthetic", "--samples", "8", "--steps", "1", "--quiet", "--out",
        folder / "run"});
  fs::copy(language_fixture() / "model/model", folder / "tiny-en");
  Environment there;
  const std::string path = folder.path();
  there.before = [path] { fs::current_path(path); };
  const Outcome o = program({"evaluate", "--adapter", "run", "--task", "synthetic"}, there);
  INFO(o.err);
  CHECK(o.code == 0);
  // Named with --model, the folder is meant, and its path is what an adapter remembers.
  const Outcome own =
      program({"finetune", "--model", "tiny-en", "--train", language_fixture() / "train.tsv",
               "--steps", "1", "--quiet", "--out", "own"},
              there);
  INFO(own.err);
  CHECK(own.code == 0);
  CHECK(fs::path(json_of(folder / "own/adapter/task.json")["base"].get<std::string>()) ==
        fs::path(folder / "tiny-en"));
  done({"predict", "--adapter", folder / "own", "--input", language_fixture() / "in.tsv"});
  refused({"generate", "--adapter", folder / "run", "--prompt", "a"}, "the shipped BERT");
}

TEST_CASE("merge: formats, and folders that must not be overwritten") {
  const TempFolder folder;
  const std::string native = trained(folder, "run", {"--eps", "0.2"});
  const std::string merged = folder / "merged";
  const json printed = json::parse(
      done({"merge", "--adapter", native, "--out", merged, "--format", "bf16", "--json"}).out);
  CHECK(printed["merged_modules"] == 14);
  const TensorMap t = load_safetensors(merged + "/model.safetensors");
  CHECK(t.dtype("bert.pooler.dense.weight") == "BF16");
  for (const char* file : {"config.json", "vocab.txt", "tokenizer_config.json", "task.json"}) {
    INFO(file);
    CHECK(fs::exists(merged + "/" + file));
  }
  CHECK(largest_difference(predicted({"--adapter", native}), predicted({"--model", merged})) < 0.1);
  CHECK_THAT(done({"evaluate", "--model", merged, "--dev", language_fixture() / "dev.tsv"}).out,
             contains("accuracy"));
  refused({"merge", "--adapter", native, "--out", language_fixture() / "model/model"},
          "is what is read");
  refused({"merge", "--adapter", native, "--out", merged, "--format", "f8"}, "f8");
  refused({"merge", "--adapter", native, "--out", native + "/task.json"},
          "expected a folder; got a file");
}

TEST_CASE("merge: a full file system leaves no model") {
  const TempFolder folder;
  const std::string native = trained(folder, "run", {"--targets", "query-value"});
  const std::string disk = folder / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=256k") != 0) {
    WARN("no file system of its own can be mounted here");
    return;
  }
  const Outcome o = program({"merge", "--adapter", native, "--out", disk + "/merged"});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, contains("No space left"));
  CHECK_FALSE(fs::exists(disk + "/merged/model.safetensors"));
  CHECK_FALSE(fs::exists(disk + "/merged/config.json"));
  umount2(disk.c_str(), MNT_DETACH);
}

TEST_CASE("inspect: models, adapters and files") {
  const TempFolder folder;
  const std::string native =
      trained(folder, "run", {"--form", "full", "--eps", "0.1", "--targets", "query-value"});
  const json a = json::parse(done({"inspect", folder / "run", "--json"}).out);
  CHECK(a["kind"] == "adapter");
  CHECK(a["format"] == "native");
  CHECK(a["options"]["form"] == "full");
  CHECK(a["labels"] == json({"other", "same"}));
  CHECK(a["adapter_parameters"] == 4 * 3 * 128 * 128);
  CHECK(a["weights"]["dtypes"]["F32"] == a["weights"]["parameters"]);
  REQUIRE(a["updates"].size() == 4);
  // The spectrum is that of the product of the factors.
  const TensorMap t = load_safetensors(native + "/adapter_model.safetensors");
  const json& first = a["updates"][0];
  const std::string module = first["name"];
  Tensor<double> product = t.get_as<double>(module + ".deep_lora.factor.1");
  for (const char* l : {"2", "3"}) {
    product = matmul(t.get_as<double>(module + ".deep_lora.factor." + l), product);
  }
  const Tensor<double> s = singular_values(product);
  REQUIRE(first["singular_values"].size() == 128);
  CHECK(std::abs(first["singular_values"][0].get<double>() - s.data()[0]) < 1e-5 * s.data()[0]);
  index_t rank = 0;
  for (const double v : s) rank += v > s.data()[0] * 128 * 1.1920929e-7 ? 1 : 0;
  CHECK(first["numerical_rank"] == rank);
  CHECK_THAT(done({"inspect", native}).out,
             contains("largest singular values") &&
                 contains("stored too  pooler, classifier: 16770 numbers"));
  CHECK(a["stored_whole"].size() == 4);

  done({"export", "--adapter", native, "--rank", "2", "--out", folder / "peft"});
  const json p = json::parse(done({"inspect", folder / "peft", "--json"}).out);
  CHECK(p["format"] == "peft");
  CHECK(p["updates"][0]["numerical_rank"] == 2);
  CHECK(p["stored_whole"].size() == 4);
  CHECK(std::abs(p["updates"][0]["singular_values"][1].get<double>() - s.data()[1]) <
        1e-4 * s.data()[0]);

  const json m = json::parse(done({"inspect", language_fixture() / "model", "--json"}).out);
  CHECK(m["kind"] == "model");
  CHECK(m["layers"] == 2);
  CHECK(m["hidden_size"] == 128);
  CHECK(m["missing"] == "pooler, classifier");
  CHECK(m["tensors"].size() == m["weights"]["tensors"]);
  CHECK_THAT(done({"inspect", language_fixture() / "model"}).out, contains("2 layers x 128"));

  done({"merge", "--adapter", native, "--out", folder / "merged"});
  const json d = json::parse(
      done({"inspect", folder / "merged", "--base", language_fixture() / "model", "--json"}).out);
  for (const json& u : d["updates"]) {
    const bool adapted = u["name"].get<std::string>().find("self.query") != std::string::npos ||
                         u["name"].get<std::string>().find("self.value") != std::string::npos;
    INFO(u["name"]);
    CHECK((u["singular_values"][0].get<double>() > 0) == adapted);
  }

  const json f =
      json::parse(done({"inspect", native + "/adapter_model.safetensors", "--json"}).out);
  CHECK(f["kind"] == "file");
  CHECK(f["tensors"].size() == t.size());
  CHECK_THAT(done({"inspect", native + "/adapter_model.safetensors"}).out,
             contains("deep_lora.factor.1"));
  write_raw(folder / "x.bin", "PK\3\4");
  refused({"inspect", folder / "x.bin"}, "a pickle can run code");
  write_raw(folder / "x.bin", std::string(28, '\1'));
  refused({"inspect", folder / "x.bin"}, "parsimony export --model");
  write_raw(folder / "x.safetensors", std::string("\xff\xff\xff\xff\x01\x00\x00\x00{}", 10));
  refused({"inspect", folder / "x.safetensors"}, "does not fit the file");
  refused({"inspect", folder / "none"}, "none': expected a file or a folder; it does not exist");
  fs::remove(folder / "x.bin");
  refused({"inspect", folder.path()}, "config.json");
}
