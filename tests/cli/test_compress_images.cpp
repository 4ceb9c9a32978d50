// A ViT as a user has one: trained on images, compressed by every method, loaded by every command
// that takes a model, and what is refused.
#include <parsimony/files.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>

#include "cli/language_models.hpp"
#include "io/nlohmann.hpp"

using namespace parsimony::testing;
using namespace parsimony;
using nlohmann::json;

namespace {

/// Noisy copies of ten patterns in optdigits' form, and a ViT that has seen them.
struct Fixture {
  TempFolder folder;
  std::string model = folder / "trained/model";
  Fixture() {
    make_folders(folder / "data/optdigits");
    const Rng rng(3);
    const std::vector<double> patterns = rng.split("patterns").uniform<double>({640}).to_vector();
    for (const std::string part : {"tra", "tes"}) {
      const index_t rows = part == "tra" ? 120 : 40;
      Rng draw = rng.split(part);
      std::string text;
      for (index_t i = 0; i < rows; ++i) {
        for (index_t pixel = 0; pixel < 64; ++pixel) {
          const double value =
              12 * patterns[static_cast<std::size_t>(i % 10 * 64 + pixel)] + 5 * draw.uniform();
          text += std::to_string(std::min(16, static_cast<int>(value))) + ",";
        }
        text += std::to_string(i % 10) + "\n";
      }
      write_raw(folder / ("data/optdigits/optdigits." + part), text);
    }
    done(task({"finetune", "--model", "scratch:vit-tiny-8x1", "--method", "full", "--samples", "0",
               "--steps", "60", "--lr", "1e-3", "--quiet", "--out", folder / "trained"}));
  }
  /// With the task and its data.
  std::vector<std::string> task(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(),
                     {"--task", "optdigits", "--data", folder / "data", "--threads", "1"});
    return arguments;
  }
};

const Fixture& fixture() {
  static const Fixture made;
  return made;
}

double accuracy(const std::string& model) {
  return json::parse(
      done(fixture().task({"evaluate", "--json", "--model", model})).out)["metrics"]["accuracy"];
}

}  // namespace

TEST_CASE("compress: every method on a ViT; its folder loads wherever a model does") {
  const Fixture& f = fixture();
  const TempFolder out;
  CHECK(accuracy(f.model) > 0.8);
  const std::string images = f.folder / "data/optdigits/optdigits.tes";
  const std::string all = done({"predict", "--model", f.model, "--input", images}).out;
  CHECK(std::count(all.begin(), all.end(), '\n') == 40);
  CHECK(std::count(all.begin(), all.end(), '\t') == 9 * 40);
  Environment piped;
  piped.before = [images] {
    if (std::freopen(images.c_str(), "rb", stdin) == nullptr) std::abort();
  };
  CHECK(program({"predict", "--model", f.model}, piped).out == all);
  for (const std::string method : {"bolaco", "svd", "asvd", "pc-lora"}) {
    INFO(method);
    const std::string small = out / method;
    std::vector<std::string> arguments{"compress", "--method",    method,  "--model", f.model,
                                       "--ratio",  "0.4",         "--out", small,     "--windows",
                                       "16",       "--sequences", "80",    "--quiet"};
    if (method == "bolaco") arguments.insert(arguments.end(), {"--evaluations", "4"});
    if (method == "pc-lora") arguments.insert(arguments.end(), {"--steps", "30"});
    done(f.task(arguments));
    const json r = json::parse(read_file(small + "/compression.json"));
    CHECK(r["kept"].get<double>() <= 0.4);
    CHECK(r["kept"].get<double>() > 0.3);
    CHECK(r["before"]["accuracy"].get<double>() == accuracy(f.model));
    CHECK(r["after"]["accuracy"].get<double>() == accuracy(small));
    const json config = json::parse(read_file(small + "/config.json"));
    CHECK(config["factored_ranks"].size() == (method == "pc-lora" ? 12U : 10U));
    const std::string inspected = done({"inspect", small}).out;
    CHECK_THAT(inspected, contains("ViT") && contains("1 channels x 8 x 8") &&
                              contains("layers are pairs of rank"));
    CHECK(done({"predict", "--model", small, "--input", images}).out != all);
    refused(f.task({"compress", "--model", small, "--out", out / "again"}), "compressed already");
  }
  done(f.task({"finetune", "--model", out / "svd", "--method", "lora", "--samples", "0", "--steps",
               "2", "--quiet", "--out", out / "adapted"}));
  done(f.task({"evaluate", "--adapter", out / "adapted/adapter"}));
  done(f.task({"compress", "--method", "svd", "--model", f.model, "--ratio", "0.4", "--out",
               out / "twice", "--quiet"}));
  CHECK((read_file(out / "svd/model.safetensors") == read_file(out / "twice/model.safetensors")));
}

TEST_CASE("compress: pc-lora without weights from the start learns, with and without features") {
  const Fixture& f = fixture();
  const TempFolder out;
  std::vector<double> losses;
  for (const std::string feature : {"0", "1"}) {
    done(f.task({"compress", "--method", "pc-lora", "--model", f.model, "--decay-end", "0",
                 "--feature-weight", feature, "--ratio", "0.4", "--steps", "60", "--out",
                 out / feature, "--quiet"}));
    const json r = json::parse(read_file(out / (feature + "/compression.json")));
    CHECK(r["after"]["loss"].get<double>() < 1.5);  // at random 2.3
    losses.push_back(r["after"]["loss"]);
  }
  CHECK(losses[0] != losses[1]);
  refused(f.task({"compress", "--method", "pc-lora", "--model", f.model, "--feature-weight", "-1",
                  "--out", out / "x"}),
          "weights of features and logits");
}

TEST_CASE("compress: what is refused of a ViT and of images") {
  const Fixture& f = fixture();
  const TempFolder out;
  const auto with = [&](const std::string& model, std::vector<std::string> more) {
    more.insert(more.begin(), {"compress", "--out", out / "x", "--model", model});
    return more;
  };
  for (const std::string method : {"bolaco", "svd", "asvd", "pc-lora"}) {
    INFO(method);
    for (const std::string ratio : {"0", "1", "-0.5", "7"}) {
      refused(f.task(with(f.model, {"--ratio", ratio, "--method", method})), "(0, 1)");
    }
    // A model of texts with images, and the reverse.
    refused(f.task(with("tiny-en", {"--method", method})), "'tiny-en' is a bert");
    refused(with(f.model, {"--method", method, "--task", "synthetic"}), "is of model type vit");
  }
  write_raw(out / "text.txt", "a dog runs\n");
  refused(with(f.model, {"--calibration", out / "text.txt"}), "--task mnist or --task optdigits");
  refused(f.task(with(f.model, {"--calibration", out / "text.txt"})), "not both");
  refused(f.task(with(f.model, {"--train", out / "text.txt"})), "tables of texts");
  refused(f.task(with("scratch:vit-tiny-8x1", {})), "fresh weights");
  refused(f.task(with("scratch:vit-tiny-28x1", {})), "fresh weights");
  refused(with(f.model, {"--task", "optdigit"}), "did you mean 'optdigits'?");
  refused(f.task(with(f.model, {"--ratio", "0.001", "--method", "pc-lora"})), "one direction");
  Environment no_data;
  no_data.unset = {"PARSIMONY_DATA"};
  const Outcome absent =
      program(with(f.model, {"--task", "optdigits", "--data", out.path()}), no_data);
  CHECK(absent.code == 2);
  CHECK_THAT(absent.err, contains("optdigits.tra"));
  // Without its head.
  make_folders(out / "headless");
  TensorMap kept;
  const TensorMap whole = load_safetensors(f.model + "/model.safetensors");
  for (const std::string& name : whole.names()) {
    if (name.compare(0, 10, "classifier") != 0) kept.set(name, whole.get_as<float>(name));
  }
  save_safetensors(out / "headless/model.safetensors", kept);
  write_raw(out / "headless/config.json", read_file(f.model + "/config.json"));
  refused(f.task(with(out / "headless", {})), "classifier of 10 outputs");
}

TEST_CASE("predict: files that are not the images of the model") {
  const Fixture& f = fixture();
  const TempFolder out;
  refused({"predict", "--model", f.model}, "'stdin': expected images");
  write_raw(out / "in.tsv", "a dog runs\n");
  refused({"predict", "--model", f.model, "--input", out / "in.tsv"}, "line 1, field 1");
  write_raw(out / "idx", std::string("\0\0\x08\x03\0\0\0\1\0\0\0\1\0\0\0\2\x7f\x80", 18));
  refused({"predict", "--model", f.model, "--input", out / "idx"}, "expected images (1, 8, 8)");
}
