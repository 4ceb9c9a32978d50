// Scaled dot-product attention of many heads on (batch, length, heads * width) blocks, without
// copying the heads apart: each head is a matrix with a leading dimension. Fewer heads of keys and
// values than of queries serve consecutive query heads each (Ainslie et al. 2023).
#pragma once

#include <cstdint>

#include "kernels/dropout.hpp"

namespace parsimony::kernels {

struct AttentionShape {
  std::int64_t batch, length, heads, width;  // width of one head
  /// The tokens of each sequence that ask, at most length: the leading ones or, with `causal`, the
  /// last ones. q and out have so many rows.
  std::int64_t queries;
  /// Keys that may be attended to, (batch, length) of 0 and 1; null: all.
  const std::uint8_t* mask = nullptr;
  /// Heads of k and v, a divisor of heads.
  std::int64_t kv_heads = 0;
  /// A token sees itself and those before it. With fewer queries than tokens: no mask.
  bool causal = false;
  /// Above 0: k is (batch, kv_heads, width, this), of which the first `length` are used.
  std::int64_t transposed_keys = 0;
  std::int64_t hidden() const { return heads * width; }
  std::int64_t kv_hidden() const { return kv_heads * width; }
};

/// out = dropout(softmax(q kᵀ / √width)) v for each head. Rows past the last unmasked key of their
/// sequence (padding) are 0, as are rows that see no key. A causal row has the same bits whatever
/// comes after it, and however many rows are asked for, where products have (gemm_tiles.hpp).
/// `probabilities` (batch, heads, queries, length) keeps what backward needs: the softmax, negative
/// (or -0) where an entry was dropped; a sequence uses the beginning of its block, row by row.
template <class T>
void attention(const AttentionShape& shape, const DropoutMask& dropout, const T* q, const T* k,
               const T* v, T* out, T* probabilities);

/// Gradients of q, k and v, of their shapes; null where none is needed.
template <class T>
void attention_backward(const AttentionShape& shape, const DropoutMask& dropout, const T* q,
                        const T* k, const T* v, const T* probabilities, const T* dout, T* dq, T* dk,
                        T* dv);

}  // namespace parsimony::kernels
