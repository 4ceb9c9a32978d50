#include "kernels/square_update.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.hpp"

namespace parsimony::kernels {

template <class T>
SquareUpdate<T>::SquareUpdate(int type, std::int64_t in, std::int64_t out, std::int64_t side)
    : type_(type),
      in_(in),
      out_(out),
      side_(side),
      parts_(type == 6 ? std::min((in + side - 1) / side, (out + side - 1) / side) : 1),
      runs_in_(type == 2 || type == 3),
      runs_out_(type == 2 || type == 4) {
  if (type_ != 6) return;
  const std::int64_t half = side_ / 2;
  for (std::int64_t part = 0; part < parts_; ++part) {
    for (std::int64_t t = 0; t < half; ++t) {
      const double turn =
          std::pow(10000.0, -2.0 * static_cast<double>(t) / static_cast<double>(side_));
      const double angle = static_cast<double>(part) * turn;
      cos_.push_back(static_cast<T>(std::cos(angle)));
      sin_.push_back(static_cast<T>(std::sin(angle)));
    }
  }
}

template <class T>
std::int64_t SquareUpdate<T>::run_of(std::int64_t place, std::int64_t length) const {
  const std::int64_t shorter = length / side_;
  const std::int64_t longer_runs = length % side_;
  const std::int64_t in_longer = longer_runs * (shorter + 1);
  if (place < in_longer) return place / (shorter + 1);
  return longer_runs + (place - in_longer) / shorter;
}

template <class T>
std::int64_t SquareUpdate<T>::row_of(std::int64_t output) const {
  return runs_out_ ? run_of(output, out_) : output % (side_ * parts_);
}

template <class T>
void SquareUpdate<T>::compress(std::int64_t rows, const T* x, T* z) const {
  const std::int64_t padded = (in_ + side_ - 1) / side_ * side_;
  parallel_for(rows, 2 * in_, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* from = x + r * in_;
      T* to = z + r * parts_ * side_;
      if (type_ == 6) {
        const std::int64_t half = side_ / 2;
        const std::int64_t used = parts_ * side_;
        std::copy(from, from + std::min(used, in_), to);
        if (used > in_) std::copy(from, from + used - in_, to + in_);
        for (std::int64_t part = 1; part < parts_; ++part) {
          T* a = to + part * side_;
          T* b = a + half;
          const T* c = cos_.data() + part * half;
          const T* s = sin_.data() + part * half;
          for (std::int64_t t = 0; t < half; ++t) {
            const T turned = a[t] * c[t] - b[t] * s[t];
            b[t] = b[t] * c[t] + a[t] * s[t];
            a[t] = turned;
          }
        }
      } else if (runs_in_) {
        std::int64_t at = 0;
        for (std::int64_t j = 0; j < side_; ++j) {
          const std::int64_t end = at + in_ / side_ + (j < in_ % side_ ? 1 : 0);
          T sum = 0;
          for (; at < end; ++at) sum += from[at];
          to[j] = sum;
        }
      } else {
        std::copy(from, from + side_, to);
        for (std::int64_t at = side_; at < padded; at += side_) {
          const std::int64_t whole = std::min(side_, in_ - at);
          for (std::int64_t j = 0; j < whole; ++j) to[j] += from[at + j];
          for (std::int64_t j = whole; j < side_; ++j) to[j] += from[at + j - in_];
        }
      }
    }
  });
}

template <class T>
void SquareUpdate<T>::gather(std::int64_t rows, const T* dy, T* z) const {
  const std::int64_t width = parts_ * side_;
  parallel_for(rows, 2 * out_, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const T* from = dy + r * out_;
      T* to = z + r * width;
      if (runs_out_) {
        std::int64_t at = 0;
        for (std::int64_t j = 0; j < side_; ++j) {
          const std::int64_t end = at + out_ / side_ + (j < out_ % side_ ? 1 : 0);
          T sum = 0;
          for (; at < end; ++at) sum += from[at];
          to[j] = sum;
        }
        continue;
      }
      const std::int64_t direct = std::min(width, out_);
      std::copy(from, from + direct, to);
      std::fill(to + direct, to + width, T(0));
      for (std::int64_t at = width; at < out_; at += width) {
        const std::int64_t count = std::min(width, out_ - at);
        for (std::int64_t j = 0; j < count; ++j) to[j] += from[at + j];
      }
    }
  });
}

// The distinct rows of M C are formed once; an output's row is the sum of w's and one of them.
// Those of type 6 are 0 but for the side entries of one part.
template <class T>
void SquareUpdate<T>::updated(const T* w, const T* m, T* w_out) const {
  const std::int64_t padded = (in_ + side_ - 1) / side_ * side_;
  const std::int64_t width = type_ == 6 ? side_ : in_;
  std::vector<T> distinct(static_cast<std::size_t>(parts_ * side_ * width), T(0));
  T* const rows = distinct.data();
  parallel_for(parts_ * side_, width, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      T* to = rows + r * width;
      const T* from = m + r % side_ * side_;
      if (type_ == 6) {
        const std::int64_t half = side_ / 2;
        const T* c = cos_.data() + r / side_ * half;
        const T* s = sin_.data() + r / side_ * half;
        for (std::int64_t t = 0; t < half; ++t) {
          to[t] = from[t] * c[t] + from[t + half] * s[t];
          to[t + half] = from[t + half] * c[t] - from[t] * s[t];
        }
      } else if (runs_in_) {
        std::int64_t at = 0;
        for (std::int64_t j = 0; j < side_; ++j) {
          const std::int64_t end = at + in_ / side_ + (j < in_ % side_ ? 1 : 0);
          std::fill(to + at, to + end, from[j]);
          at = end;
        }
      } else {
        for (std::int64_t i = 0; i < padded; ++i) to[i % in_] += from[i % side_];
      }
    }
  });
  parallel_for(out_, in_, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t o = first; o < last; ++o) {
      const std::int64_t r = row_of(o);
      const T* from = rows + r * width;
      T* to = w_out + o * in_;
      if (w == nullptr) {
        std::fill(to, to + in_, T(0));
      } else {
        std::copy(w + o * in_, w + (o + 1) * in_, to);
      }
      const std::int64_t begin = type_ == 6 ? r / side_ * side_ : 0;
      const std::int64_t direct = std::min(width, in_ - begin);
      for (std::int64_t i = 0; i < direct; ++i) to[begin + i] += from[i];
      for (std::int64_t i = direct; i < width; ++i) to[begin + i - in_] += from[i];
    }
  });
}

template class SquareUpdate<float>;
template class SquareUpdate<double>;

}  // namespace parsimony::kernels
