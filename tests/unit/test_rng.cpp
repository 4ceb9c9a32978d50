// Random streams: the published vectors of Philox 4x32-10, moments and distribution functions, and
// what experiments rely on: splitting never moves another stream, a saved state goes on bit by bit.
#include <parsimony/error.hpp>
#include <parsimony/rng.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "kernels/philox_lanes.hpp"
#include "support/catch.hpp"

using namespace parsimony;

namespace {

/// Kolmogorov-Smirnov distance of a sample from a distribution function.
template <class F>
double ks_distance(std::vector<double> sample, F distribution) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double distance = 0;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const double f = distribution(sample[i]);
    const auto rank = static_cast<double>(i);
    distance = std::max({distance, f - rank / n, (rank + 1) / n - f});
  }
  return distance;
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  double ab = 0;
  double aa = 0;
  double bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

std::vector<double> normals(Rng rng, int n) {
  std::vector<double> out;
  for (int i = 0; i < n; ++i) out.push_back(rng.normal());
  return out;
}

}  // namespace

TEST_CASE("Philox gives the known answers of its authors", "[rng]") {
  // Random123's kat_vectors, "philox4x32 10".
  CHECK(philox::block({0, 0, 0, 0}, {0, 0}) ==
        philox::Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox::block({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        philox::Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox::block({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        philox::Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  Rng rng(0);
  CHECK(rng.next_u64() == 0xe169c58d6627e8d5);
  CHECK(rng.next_u64() == 0x9b00dbd8bc57ac4c);
  const philox::Block second = philox::block({1, 0, 0, 0}, {0, 0});
  CHECK(static_cast<std::uint32_t>(rng.next_u64()) == second[0]);
}

TEST_CASE("Philox gives eight blocks at a time as it gives one", "[rng]") {
  constexpr int count = philox::counters_at_once;
  constexpr std::ptrdiff_t stride = count + 3;
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  for (const std::uint64_t key : {std::uint64_t{0}, std::uint64_t{0xFEDCBA9876543210}}) {
    // Across the border of the lower word, and where the upper one is large.
    for (const std::uint64_t first :
         {std::uint64_t{0xFFFFFFFC}, std::uint64_t{0xABCDEF0123456789}}) {
      std::uint64_t counters[count];
      for (std::size_t i = 0; i < count; ++i) counters[i] = first + i * i;
      std::uint32_t words[4 * stride] = {};
      philox::eight_blocks(counters, philox::schedule(key), words, stride);
      for (std::size_t i = 0; i < count; ++i) {
        const philox::Block expected = philox::block(
            {low(counters[i]), low(counters[i] >> 32), 0, 0}, {low(key), low(key >> 32)});
        for (std::size_t w = 0; w < 4; ++w) CHECK(words[w * stride + i] == expected[w]);
      }
      CHECK(words[count] == 0);
    }
  }
}

TEST_CASE("uniform and normal draws follow their distributions", "[rng]") {
  const int n = 200000;
  Rng rng(7);
  std::vector<double> flat;
  for (int i = 0; i < n; ++i) flat.push_back(rng.uniform());
  CHECK(*std::min_element(flat.begin(), flat.end()) >= 0.0);
  CHECK(*std::max_element(flat.begin(), flat.end()) < 1.0);
  const double critical = 1.95 / std::sqrt(n);  // p = 0.001
  CHECK(ks_distance(flat, [](double x) { return x; }) < critical);

  const std::vector<double> bell = normals(rng, n);
  CHECK(ks_distance(bell, [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }) <
        critical);
  double moments[5] = {};
  for (const double x : bell) {
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(x, k) / n;
  }
  const double sigma = 1.0 / std::sqrt(n);
  CHECK(std::abs(moments[1]) < 4 * sigma);
  CHECK(std::abs(moments[2] - 1) < 4 * std::sqrt(2.0) * sigma);
  CHECK(std::abs(moments[3]) < 4 * std::sqrt(15.0) * sigma);
  CHECK(std::abs(moments[4] - 3) < 4 * std::sqrt(96.0) * sigma);
  // The two halves of a Box-Muller pair are independent.
  std::vector<double> even;
  std::vector<double> odd;
  for (std::size_t i = 0; i + 1 < bell.size(); i += 2) {
    even.push_back(bell[i]);
    odd.push_back(bell[i + 1]);
  }
  CHECK(std::abs(correlation(even, odd)) < 4 / std::sqrt(n / 2.0));
}

TEST_CASE("split streams are independent and do not move their parent", "[rng]") {
  const Rng root(42);
  Rng used(42);
  const Rng before = root.split("layer.0.W1");
  used.split("layer.1.W1");
  for (int i = 0; i < 5; ++i) used.next_u64();
  // A split depends on the key alone, not on how far the parent went.
  CHECK(used.split("layer.0.W1").state() == before.state());
  Rng fresh(42);
  const std::uint64_t first = fresh.next_u64();
  Rng after_split(42);
  after_split.split("x");
  CHECK(after_split.next_u64() == first);

  const int n = 20000;
  const std::vector<std::string> names = {
      "",           "a",          "b",        "ab",       std::string("a\0", 2), "ba", "W1",
      "layer.0.W1", "layer.0.W2", "01234567", "012345678"};
  std::vector<Rng> streams = {root,          Rng(43),       root.split("a").split("b"),
                              root.split(0), root.split(1), root.split("a").split("a")};
  for (const auto& name : names) streams.push_back(root.split(name));
  std::vector<std::vector<double>> samples;
  std::set<std::uint64_t> keys;
  for (const Rng& stream : streams) {
    keys.insert(stream.state()[0]);
    samples.push_back(normals(stream, n));
  }
  CHECK(keys.size() == streams.size());
  double largest = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      largest = std::max(largest, std::abs(correlation(samples[i], samples[j])));
    }
  }
  CHECK(largest < 5 / std::sqrt(n));
}

TEST_CASE("keys of numbered splits do not collide", "[rng]") {
  const Rng root(1);
  std::set<std::uint64_t> keys;
  for (std::uint64_t i = 0; i < 100000; ++i) keys.insert(root.split(i).state()[0]);
  CHECK(keys.size() == 100000);
}

TEST_CASE("a stream goes on from a saved state bit by bit", "[rng]") {
  for (const int u64s : {0, 1, 2, 3}) {
    for (const int drawn : {0, 1, 2}) {
      Rng rng = Rng(9).split("state");
      for (int i = 0; i < u64s; ++i) rng.next_u64();
      for (int i = 0; i < drawn; ++i) rng.normal();
      Rng copy(12345);
      copy.normal();
      copy.set_state(rng.state());
      for (int i = 0; i < 5; ++i) {
        CHECK(copy.normal() == rng.normal());
        CHECK(copy.next_u64() == rng.next_u64());
        CHECK(copy.below(10) == rng.below(10));
      }
      CHECK(copy.state() == rng.state());
    }
  }
  Rng rng(1);
  CHECK_THROWS_AS(rng.set_state({1, 2, 2, 0}), ValueError);
  CHECK_THROWS_AS(rng.set_state({1, 2, 1, ~std::uint64_t{0}}), ValueError);
  CHECK_THROWS_AS(rng.set_state({1, 2, 0, 1}), ValueError);
}

TEST_CASE("float and double tensors are the same stream", "[rng]") {
  Rng a(3);
  Rng b(3);
  Rng c(3);
  const Tensor<double> x = a.normal<double>({7, 9}, 0.3);
  const Tensor<float> y = b.normal<float>({7, 9}, 0.3);
  for (index_t i = 0; i < x.size(); ++i) {
    CHECK(y.data()[i] == static_cast<float>(x.data()[i]));
    CHECK(x.data()[i] == 0.3 * c.normal());
  }
  CHECK(a.state() == b.state());
  const Tensor<double> u = a.uniform<double>({100}, -2, 5);
  const Tensor<float> v = b.uniform<float>({100}, -2, 5);
  for (index_t i = 0; i < u.size(); ++i) {
    CHECK(v.data()[i] == static_cast<float>(u.data()[i]));
    CHECK((u.data()[i] >= -2 && u.data()[i] < 5));
  }
  CHECK(a.normal<double>({0, 3}).size() == 0);
  CHECK(a.uniform<float>({2}, 1, 1).at({1}) == 1.0F);
}

TEST_CASE("a float uniform never rounds up to its upper end", "[rng]") {
  Rng rng(11);
  // One step of float above 1: half of the draws round up.
  const float high = std::nextafter(1.0F, 2.0F);
  for (const float x : rng.uniform<float>({1000}, 1.0, static_cast<double>(high))) CHECK(x == 1.0F);
}

TEST_CASE("bounded integers are unbiased", "[rng]") {
  Rng rng(5);
  std::vector<int> counts(7);
  const int n = 70000;
  for (int i = 0; i < n; ++i) ++counts[static_cast<std::size_t>(rng.below(7))];
  double chi2 = 0;
  for (const int count : counts) chi2 += std::pow(count - n / 7.0, 2) / (n / 7.0);
  CHECK(chi2 < 22.46);  // 6 degrees of freedom, p = 0.001
  // A bound above 2^62 leaves a visible bias to x % bound without rejection: 2^64 mod n is large.
  const index_t bound = (index_t{1} << 62) + (index_t{1} << 61);
  int low_third = 0;
  for (int i = 0; i < 30000; ++i) low_third += rng.below(bound) < bound / 3 ? 1 : 0;
  CHECK(std::abs(low_third - 10000) < 4 * std::sqrt(30000 * 2.0 / 9));
  CHECK(rng.below(1) == 0);
  CHECK_THROWS_AS(rng.below(0), ValueError);
  CHECK_THROWS_AS(rng.below(-3), ValueError);
}

TEST_CASE("permutations and choices", "[rng]") {
  Rng rng(8);
  std::vector<index_t> order = rng.permutation(1000);
  std::vector<index_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  index_t fixed = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    CHECK(sorted[i] == static_cast<index_t>(i));
    fixed += order[i] == static_cast<index_t>(i) ? 1 : 0;
  }
  CHECK(fixed < 8);  // Poisson(1)
  CHECK(rng.permutation(0).empty());
  CHECK_THROWS_AS(rng.permutation(-1), ValueError);

  // All 6 orders of 3 things come equally often.
  std::vector<int> counts(6);
  for (int i = 0; i < 12000; ++i) {
    const std::vector<index_t> p = rng.permutation(3);
    ++counts[static_cast<std::size_t>(p[0] * 2 + (p[1] > p[2] ? 1 : 0))];
  }
  for (const int count : counts) CHECK(std::abs(count - 2000) < 4 * std::sqrt(2000 * 5.0 / 6));

  for (const index_t count : {0, 1, 5, 50, 100}) {
    for (const index_t n : {index_t{100}, index_t{1000000}}) {
      const std::vector<index_t> chosen = rng.choose(n, count);
      CHECK(static_cast<index_t>(chosen.size()) == count);
      CHECK(std::is_sorted(chosen.begin(), chosen.end()));
      CHECK(std::set<index_t>(chosen.begin(), chosen.end()).size() == chosen.size());
      if (count > 0) CHECK((chosen.front() >= 0 && chosen.back() < n));
    }
  }
  std::vector<int> hits(10);
  for (int i = 0; i < 10000; ++i) {
    for (const index_t x : rng.choose(10, 3)) ++hits[static_cast<std::size_t>(x)];
  }
  for (const int hit : hits) CHECK(std::abs(hit - 3000) < 4 * std::sqrt(2100.0));
  CHECK_THROWS_AS(rng.choose(3, 4), ValueError);
  CHECK_THROWS_AS(rng.choose(3, -1), ValueError);
}

TEST_CASE("bad parameters of random tensors", "[rng]") {
  Rng rng(1);
  CHECK_THROWS_AS(rng.normal<double>({2}, -1), ValueError);
  CHECK_THROWS_AS(rng.normal<double>({2}, std::nan("")), ValueError);
  CHECK_THROWS_AS(rng.uniform<double>({2}, 1, 0), ValueError);
  CHECK_THROWS_AS(rng.uniform<double>({2}, 0, INFINITY), ValueError);
}
