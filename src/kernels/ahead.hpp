// Prefetches for what the CPU does not foresee: short rows far apart.
#pragma once

#include <cstdint>

namespace parsimony::kernels {

/// Memory that is wanted next, `count` runs of some bytes, brought into the L2 cache a few lines at
/// a time while the CPU is busy multiplying.
class Ahead {
 public:
  Ahead() = default;
  /// In `calls` calls of some().
  template <class T>
  Ahead(const T* data, std::int64_t stride, std::int64_t count, std::int64_t size,
        std::int64_t calls)
      : run_(reinterpret_cast<const char*>(data)),
        stride_(stride * static_cast<std::int64_t>(sizeof(T))),
        count_(count),
        bytes_(size * static_cast<std::int64_t>(sizeof(T))),
        lines_(count * ((bytes_ + line - 1) / line) / calls + 1) {}

  void some() {
    for (std::int64_t i = 0; i < lines_ && count_ > 0; ++i) {
      __builtin_prefetch(run_ + at_, 0, 2);
      at_ += line;
      if (at_ < bytes_) continue;
      at_ = 0;
      run_ += stride_;
      --count_;
    }
  }

 private:
  static constexpr std::int64_t line = 64;
  const char* run_ = nullptr;
  std::int64_t stride_ = 0, count_ = 0, bytes_ = 0, lines_ = 0, at_ = 0;
};

}  // namespace parsimony::kernels
