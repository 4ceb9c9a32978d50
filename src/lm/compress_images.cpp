// A ViT and the images of its task, as the compressors want them. A sequence is an image: its
// patches and the class token.
#include <parsimony/error.hpp>
#include <parsimony/vit.hpp>

#include <fmt/format.h>

#include "lm/compress_task.hpp"
#include "lm/compress_text.hpp"

namespace parsimony {

namespace {

class ImageClassification : public TaskCompression {
 public:
  ImageClassification(const CompressionSource& source, const ImageSplits& splits)
      : TaskCompression(source) {
    use(image_task(base(), splits), source);
  }

 private:
  void write(Module<float>& model, const std::string& folder) const override {
    dynamic_cast<Vit<float>&>(model).save(folder);
    copy_files({"task.json", "preprocessor_config.json"}, base().folder(), folder);
  }
};

}  // namespace

std::unique_ptr<CompressionData> image_compression(const CompressionSource& source,
                                                   const ImageSplits& splits) {
  return std::make_unique<ImageClassification>(source, splits);
}

}  // namespace parsimony
