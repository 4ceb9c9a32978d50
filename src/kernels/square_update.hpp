// MoRA's operators (Jiang et al. 2024, arXiv 2405.12130): a square matrix M (side, side) between a
// compression C of a layer's inputs and a decompression D to its outputs, both without parameters.
//
//   type  C                                              D
//   1     z_j = Σ x~ of the places j mod side            y_o = u_{o mod side}
//   2     z_j = Σ x over side runs of neighbours         outputs in side runs of equal values
//   3     as 2                                           as 1
//   4     as 1                                           as 2
//   6     N = ⌈in / side⌉ parts of x~, part i turned     M applied to each part; the N side values
//         by the angles i 10000^(-2t / side)             cut or repeated to the outputs
//
// x~ is x followed by its own first entries up to N side. Runs are one longer for the first
// (length mod side) of them. Type 5 was never defined in the authors' code.
#pragma once

#include <cstdint>
#include <vector>

namespace parsimony::kernels {

template <class T>
class SquareUpdate {
 public:
  /// `side` even for type 6, at most in and out.
  SquareUpdate(int type, std::int64_t in, std::int64_t out, std::int64_t side);

  /// Rows that one row of x or dy becomes below: for type 6 N, or as many as reach the outputs;
  /// else 1.
  std::int64_t parts() const { return parts_; }
  /// C x for rows of x (rows, in), turned: z (rows parts, side).
  void compress(std::int64_t rows, const T* x, T* z) const;
  /// Dᵀ dy for rows of dy (rows, out): z (rows parts, side). The gradient of M is zᵀ compress(x).
  void gather(std::int64_t rows, const T* dy, T* z) const;
  /// w_out (out, in) = w + D M C; w may be null for 0.
  void updated(const T* w, const T* m, T* w_out) const;
  /// The class of an output: D u = u[row_of(o)] for the values u of all parts.
  std::int64_t row_of(std::int64_t output) const;

 private:
  std::int64_t run_of(std::int64_t place, std::int64_t length) const;

  int type_;
  std::int64_t in_, out_, side_, parts_;
  bool runs_in_, runs_out_;
  std::vector<T> cos_, sin_;  // (parts, side / 2)
};

extern template class SquareUpdate<float>;
extern template class SquareUpdate<double>;

}  // namespace parsimony::kernels
