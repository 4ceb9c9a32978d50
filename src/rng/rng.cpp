// Philox 4x32-10: ten rounds of a 4-word bijection keyed by 64 bits, applied to a counter
// (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011). A stream
// is the image of 0, 1, 2, ...; its counter's upper half is 0. Keys of split streams come from the
// same bijection on counters whose upper half is not 0, so they never coincide with drawn numbers.
#include <parsimony/error.hpp>
#include <parsimony/rng.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <unordered_set>

#include <fmt/format.h>

#include "kernels/philox.hpp"

namespace parsimony {

namespace {

constexpr double two_pi = 6.283185307179586476925286766559;

// Upper counter words of the counters that derive keys.
constexpr std::uint32_t by_name = 1;
constexpr std::uint32_t by_number = 2;

std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }

philox::Block encrypt(std::uint64_t key, std::uint64_t counter, std::uint32_t word2,
                      std::uint32_t word3) {
  return philox::block({low(counter), high(counter), word2, word3}, {low(key), high(key)});
}

std::uint64_t join(std::uint32_t low_word, std::uint32_t high_word) {
  return static_cast<std::uint64_t>(high_word) << 32 | low_word;
}

}  // namespace

Rng::Rng(std::uint64_t seed) : key_(seed) {}

Rng Rng::split(std::string_view name) const {
  // Eight bytes of the name a step; the length goes in first, so that no name is a prefix of
  // another's chain ("ab" is not "a" then "b", and trailing zero bytes count).
  philox::Block out = encrypt(key_, name.size(), 0, by_name);
  for (std::size_t at = 0; at < name.size(); at += 8) {
    std::uint64_t bytes = 0;
    for (std::size_t i = at; i < std::min(at + 8, name.size()); ++i) {
      bytes |= static_cast<std::uint64_t>(static_cast<unsigned char>(name[i])) << (8 * (i - at));
    }
    // Key and counter both carry half of the previous block: 128 bits of chain.
    out = encrypt(join(out[0], out[1]), bytes ^ join(out[2], out[3]), 1, by_name);
  }
  return Rng(join(out[0], out[1]));
}

Rng Rng::split(std::uint64_t number) const {
  const philox::Block out = encrypt(key_, number, 0, by_number);
  return Rng(join(out[0], out[1]));
}

std::uint64_t Rng::next_u64() {
  const bool second_half = counter_ % 2 != 0;
  if (second_half) {
    ++counter_;
    return buffered_;
  }
  const philox::Block out = encrypt(key_, counter_ / 2, 0, 0);
  ++counter_;
  buffered_ = join(out[2], out[3]);
  return join(out[0], out[1]);
}

double Rng::uniform() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }

index_t Rng::below(index_t bound) {
  if (bound < 1)
    throw ValueError(fmt::format("below: expected a bound of at least 1; got {}", bound));
  // Numbers above the largest multiple of the bound would favour the small remainders.
  constexpr std::uint64_t top = std::numeric_limits<std::uint64_t>::max();
  const auto n = static_cast<std::uint64_t>(bound);
  const std::uint64_t limit = top - (top % n + 1) % n;
  std::uint64_t x = next_u64();
  while (x > limit) x = next_u64();
  return static_cast<index_t>(x % n);
}

double Rng::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_normal_;
  }
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is never 0
  const double angle = two_pi * uniform();
  spare_normal_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

template <class T>
Tensor<T> Rng::normal(const Shape& shape, double std) {
  if (!(std >= 0) || !std::isfinite(std)) {
    throw ValueError(fmt::format("normal: expected a finite std >= 0; got {}", std));
  }
  Tensor<T> out(shape);
  T* o = out.mutable_data();
  for (index_t i = 0; i < out.size(); ++i) o[i] = static_cast<T>(std * normal());
  return out;
}

template <class T>
Tensor<T> Rng::uniform(const Shape& shape, double low, double high) {
  if (!(low <= high) || !std::isfinite(high - low)) {
    throw ValueError(
        fmt::format("uniform: expected finite low <= high; got low = {}, high = {}", low, high));
  }
  Tensor<T> out(shape);
  T* o = out.mutable_data();
  // Rounding may reach `high`, in float about once in 2^25 draws.
  const T first = static_cast<T>(low);
  const T end = static_cast<T>(high);
  const T last = first < end ? std::nextafter(end, first) : first;
  for (index_t i = 0; i < out.size(); ++i) {
    o[i] = std::min(last, static_cast<T>(low + (high - low) * uniform()));
  }
  return out;
}

std::vector<index_t> Rng::permutation(index_t n) {
  if (n < 0) throw ValueError(fmt::format("permutation: expected n >= 0; got {}", n));
  std::vector<index_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), index_t{0});
  for (index_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(below(i + 1))]);
  }
  return order;
}

std::vector<index_t> Rng::choose(index_t n, index_t count) {
  if (count < 0 || count > n) {
    throw ValueError(
        fmt::format("choose: expected 0 <= count <= n; got count = {}, n = {}", count, n));
  }
  // Floyd's sampling: step j adds a number of [0, j], or j itself if that one is taken. The draws
  // do not depend on how membership is kept.
  std::vector<index_t> chosen;
  chosen.reserve(static_cast<std::size_t>(count));
  const bool dense = count > n / 64;
  if (dense) {
    std::vector<bool> taken(static_cast<std::size_t>(n), false);
    for (index_t j = n - count; j < n; ++j) {
      const auto pick = static_cast<std::size_t>(below(j + 1));
      taken[taken[pick] ? static_cast<std::size_t>(j) : pick] = true;
    }
    for (index_t i = 0; i < n; ++i) {
      if (taken[static_cast<std::size_t>(i)]) chosen.push_back(i);
    }
    return chosen;
  }
  std::unordered_set<index_t> taken;
  for (index_t j = n - count; j < n; ++j) {
    if (!taken.insert(below(j + 1)).second) taken.insert(j);
  }
  chosen.assign(taken.begin(), taken.end());
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::array<std::uint64_t, 4> Rng::state() const {
  std::uint64_t bits = 0;
  if (has_spare_) std::memcpy(&bits, &spare_normal_, sizeof bits);
  return {key_, counter_, has_spare_ ? std::uint64_t{1} : std::uint64_t{0}, bits};
}

void Rng::set_state(const std::array<std::uint64_t, 4>& state) {
  double spare = 0;
  std::memcpy(&spare, &state[3], sizeof spare);
  if (state[2] > 1 || !std::isfinite(spare) || (state[2] == 0 && state[3] != 0)) {
    throw ValueError("set_state: expected key, counter, 0 or 1, and a finite normal");
  }
  key_ = state[0];
  counter_ = state[1];
  has_spare_ = state[2] == 1;
  spare_normal_ = spare;
  if (counter_ % 2 != 0) {
    const philox::Block out = encrypt(key_, counter_ / 2, 0, 0);
    buffered_ = join(out[2], out[3]);
  }
}

template Tensor<float> Rng::normal<float>(const Shape&, double);
template Tensor<double> Rng::normal<double>(const Shape&, double);
template Tensor<float> Rng::uniform<float>(const Shape&, double, double);
template Tensor<double> Rng::uniform<double>(const Shape&, double, double);

}  // namespace parsimony
