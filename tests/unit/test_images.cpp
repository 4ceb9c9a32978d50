// Readers of image data, batches of images, and a ViT that learns from them.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/images.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/npy.hpp>
#include <parsimony/ops.hpp>
#include <parsimony/optim.hpp>
#include <parsimony/vit.hpp>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::TempFolder;
using parsimony::testing::write_raw;

namespace {

std::string idx(std::vector<std::uint32_t> header, const std::string& bytes) {
  std::string out;
  for (const std::uint32_t value : header) {
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xFF);
  }
  return out + bytes;
}

}  // namespace

TEST_CASE("images: IDX files", "[images]") {
  const TempFolder temp;
  const std::string path = temp / "idx";
  write_raw(path, idx({2051, 2, 1, 3}, std::string("\x00\xff\x00\xff\xff\x33", 6)));
  const Tensor<float> images = read_idx_images(path);
  CHECK(images.shape() == Shape{2, 1, 1, 3});
  CHECK(images.to_vector() == std::vector<float>{-1, 1, -1, 1, 1, -0.6F});
  CHECK_THROWS_WITH(read_idx_labels(path), contains("begins with 2049; got 2051"));
  write_raw(path, idx({2049, 3}, std::string("\x07\x00\x09", 3)));
  CHECK(read_idx_labels(path) == std::vector<double>{7, 0, 9});
  write_raw(path, idx({2049, 3}, "ab"));
  CHECK_THROWS_WITH(read_idx_labels(path), contains("the header says 3 entries; the file has 2"));
  write_raw(path, idx({2051, 4294967295U, 4294967295U, 4294967295U}, "ab"));
  CHECK_THROWS_WITH(read_idx_images(path), contains("the file has 2"));
  write_raw(path, "ab");
  CHECK_THROWS_WITH(read_idx_images(path), contains("got 2 bytes"));
}

TEST_CASE("images: optdigits' lines, batches, and a ViT that learns them", "[images]") {
  const TempFolder temp;
  const std::string path = temp / "digits.tra";
  const auto line = [](int digit, int fill) {
    std::string out;
    for (int i = 0; i < 64; ++i) out += std::to_string(i / 16 == digit ? fill : 0) + ",";
    return out + std::to_string(digit) + "\n";
  };
  std::string text;
  for (int i = 0; i < 16; ++i) text += line(i % 4, 8 + i % 8);
  write_raw(path, text);
  const EncodedExamples digits = read_optdigits(path);
  CHECK(digits.size() == 16);
  CHECK(digits.pixels.shape() == Shape{16, 1, 8, 8});
  const TextBatch batch = make_batch(digits, {5, 2}, 0);
  CHECK(batch.pixels.shape() == Shape{2, 1, 8, 8});
  CHECK(batch.labels == std::vector<double>{1, 2});
  CHECK(batch.pixels.at({0, 0, 2, 0}) == 13.0F / 8 - 1);
  CHECK(select_rows(digits, {3, 3}).pixels.dim(0) == 2);

  write_raw(path, text + line(3, 17));
  CHECK_THROWS_WITH(read_optdigits(path), contains("line 17, field 49: expected a whole number "
                                                   "0..16; got '17'"));
  write_raw(path, text + "1,2,3\n");
  CHECK_THROWS_WITH(read_optdigits(path),
                    contains("line 17: expected 64 pixels and a class; got 3"));
  CHECK_THROWS_WITH(load_image_task("minst"), contains("did you mean 'mnist'?"));

  VitConfig config = VitConfig::sized("tiny", 8, 1);
  CHECK(config.patch_size == 2);
  config.num_hidden_layers = 1;
  config.num_labels = 4;
  const Vit<float> model(config, Rng(1));
  AdamW<float> optimizer(one_group(model.named_parameters()), 1e-3);
  std::vector<index_t> rows;
  for (index_t i = 0; i < 16; ++i) rows.push_back(i);
  const TextBatch all = make_batch(digits, rows, 0);
  const TokenBatch input{all.ids, all.type_ids, all.mask, all.pixels};
  for (int step = 0; step < 30; ++step) {
    Pass pass;
    backward(cross_entropy(model.logits(input, pass), all.classes()));
    optimizer.step();
  }
  Pass pass;
  CHECK(argmax_rows(model.logits(input, pass).value()) == argmax_rows(Tensor<float>({16, 4}, [] {
          std::vector<float> right;
          for (int i = 0; i < 64; ++i) right.push_back(i % 4 == i / 4 % 4 ? 1.0F : 0.0F);
          return right;
        }())));
}

TEST_CASE("images: a file without classes, by what it begins with", "[images]") {
  const TempFolder temp;
  const std::string path = temp / "images";
  write_raw(path, idx({2051, 1, 1, 2}, std::string("\x00\xff", 2)));
  CHECK(read_images(path).to_vector() == std::vector<float>{-1, 1});
  std::string line;
  for (int i = 0; i < 64; ++i) line += "8,";
  write_raw(path, line + "3\n");
  CHECK(read_images(path).shape() == Shape{1, 1, 8, 8});
  save_npy(path, Tensor<double>({2, 1, 3}, {1, 2, 3, 4, 5, 6}));
  CHECK(read_images(path).shape() == Shape{2, 1, 1, 3});
  CHECK(read_images(path).at({1, 0, 0, 2}) == 6);
  save_npy(path, Tensor<float>({1, 3, 2, 2}, std::vector<float>(12, 0.5F)));
  CHECK(read_images(path).shape() == Shape{1, 3, 2, 2});
  save_npy(path, Tensor<float>({4}, std::vector<float>(4, 0.5F)));
  CHECK_THROWS_WITH(read_images(path), contains("(n, channels, rows, columns)"));
}

TEST_CASE("images: the published sets", "[images]") {
  if (find_data_file("", "optdigits/optdigits.tra").empty() ||
      find_data_file("", "mnist/t10k-labels-idx1-ubyte").empty()) {
    WARN("mnist or optdigits was not found: their files are not read");
    return;
  }
  const ImageSplits digits = load_image_task("optdigits");
  CHECK(digits.train.size() == 3823);
  CHECK(digits.dev.size() == 1797);
  const ImageSplits mnist = load_image_task("mnist");
  CHECK(mnist.train.pixels.shape() == Shape{10000, 1, 28, 28});
  CHECK(std::vector<double>(mnist.train.labels.begin(), mnist.train.labels.begin() + 10) ==
        std::vector<double>{5, 0, 4, 1, 9, 2, 1, 3, 1, 4});
  CHECK(mnist.dev.size() == 10000);
}
