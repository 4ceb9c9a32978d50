#include "lm/digests.hpp"

#include "io/digest.hpp"

namespace parsimony {

namespace {

void add(Digest& digest, const EncodedExamples& examples) {
  for (const Encoding& one : examples.encodings) {
    digest.add_values(one.ids);
    digest.add_values(one.type_ids);
  }
  if (examples.pixels.defined()) digest.add_values(examples.pixels);
  digest.add_values(examples.labels);
}

}  // namespace

std::string digest_of(const NamedParameters<float>& parameters) {
  Digest digest;
  for (const auto& [name, var] : parameters) {
    digest.add(name);
    digest.add(var.shape().str());
    digest.add_values(var.value());
  }
  return digest.digits();
}

std::string digest_of(const EncodedTask& task) {
  Digest digest;
  for (const std::string& label : task.task.labels) digest.add(label + '\n');
  add(digest, task.train);
  add(digest, task.dev);
  return digest.digits();
}

std::string digest_of(const PackedCorpus& corpus, const Tokenizer& tokenizer) {
  Digest digest;
  digest.add_values(corpus.ids);
  for (index_t id = 0; id < tokenizer.size(); ++id) digest.add(tokenizer.token(id) + '\n');
  return digest.digits();
}

}  // namespace parsimony
