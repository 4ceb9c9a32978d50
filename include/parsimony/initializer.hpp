// Where the weights of a new model come from.
#pragma once

#include <parsimony/rng.hpp>

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

namespace parsimony {

/// A random stream that layers split by name as they would an Rng, and draw their weights from: one
/// weight a stream. Drawing may be postponed: a loader draws, when it has read its file, the few
/// weights that the file lacks, with the bits that a fresh model has there.
class Initializer {
 public:
  /// Draws at once.
  Initializer(const Rng& rng) : rng_(rng) {}
  /// Leaves weights uninitialised until they are drawn.
  static Initializer postponed(const Rng& rng);

  Initializer split(std::string_view name) const { return {rng_.split(name), postponed_}; }
  Initializer split(std::uint64_t number) const { return {rng_.split(number), postponed_}; }

  /// Entries from N(0, std²), as Rng::normal draws them from the stream's beginning.
  template <class T>
  Tensor<T> normal(const Shape& shape, double std) const;
  /// Draws what was postponed for these weights, the value of a parameter; nothing for weights that
  /// did not come from normal().
  template <class T>
  void draw(Tensor<T> weights) const;

 private:
  struct Postponed;
  Initializer(const Rng& rng, std::shared_ptr<Postponed> postponed)
      : rng_(rng), postponed_(std::move(postponed)) {}

  Rng rng_;
  std::shared_ptr<Postponed> postponed_;
};

}  // namespace parsimony
