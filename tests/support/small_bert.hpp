// A BERT small enough to train in a test, and texts for it.
#pragma once

#include <parsimony/bert.hpp>

namespace parsimony::testing {

/// 2 layers of width 12. The weights are far enough from 0 that outputs differ between texts.
inline BertConfig small_bert() {
  BertConfig c;
  c.vocab_size = 24;
  c.hidden_size = 12;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 3;
  c.intermediate_size = 20;
  c.max_position_embeddings = 10;
  c.initializer_range = 0.3;
  return c;
}

/// 3 texts of 7 tokens, two of them padded.
inline TokenBatch small_batch() {
  TokenBatch batch;
  batch.ids = Tensor<std::int64_t>({3, 7});
  batch.type_ids = Tensor<std::int64_t>::zeros({3, 7});
  batch.mask = Tensor<std::uint8_t>::ones({3, 7});
  for (index_t i = 0; i < 21; ++i) batch.ids.mutable_data()[i] = 5 * i % 23;
  for (const index_t i : {12, 13, 18, 19, 20}) batch.mask.mutable_data()[i] = 0;
  return batch;
}

}  // namespace parsimony::testing
