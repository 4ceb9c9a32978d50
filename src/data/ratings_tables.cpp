// Ids, splits, matrices and generated tables of ratings.
#include <parsimony/csv.hpp>
#include <parsimony/error.hpp>
#include <parsimony/ratings.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace parsimony {

namespace {

/// FNV-1a with a final mix, so that the low bits of short numbers spread too.
std::size_t hash_bytes(std::string_view text) {
  std::uint64_t h = 14695981039346656037ULL;
  for (const char c : text) {
    h ^= static_cast<unsigned char>(c);
    h *= 1099511628211ULL;
  }
  h ^= h >> 29;
  h *= 0x9e3779b97f4a7c15ULL;
  return static_cast<std::size_t>(h ^ (h >> 32));
}

}  // namespace

std::string_view IdTable::text(std::size_t number) const {
  return std::string_view(text_).substr(offsets_[number], offsets_[number + 1] - offsets_[number]);
}

std::string_view IdTable::name(index_t number) const {
  if (number < 0 || number >= size()) {
    throw ValueError(fmt::format("ids: number {} is outside [0, {})", number, size()));
  }
  return text(static_cast<std::size_t>(number));
}

/// Where the id is, or the free slot where it belongs.
std::size_t IdTable::slot_of(std::string_view id) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash_bytes(id) & mask;
  while (slots_[at] >= 0 && text(static_cast<std::size_t>(slots_[at])) != id) at = (at + 1) & mask;
  return at;
}

void IdTable::grow() {
  slots_.assign(std::max<std::size_t>(64, 4 * static_cast<std::size_t>(size())), -1);
  std::size_t power = 64;
  while (power < slots_.size()) power *= 2;
  slots_.assign(power, -1);
  for (index_t i = 0; i < size(); ++i) {
    slots_[slot_of(text(static_cast<std::size_t>(i)))] = static_cast<std::int32_t>(i);
  }
}

index_t IdTable::insert(std::string_view id) {
  if (2 * (static_cast<std::size_t>(size()) + 1) > slots_.size()) grow();
  std::int32_t& slot = slots_[slot_of(id)];
  if (slot < 0) {
    slot = static_cast<std::int32_t>(size());
    text_.append(id);
    offsets_.push_back(text_.size());
  }
  return slot;
}

index_t IdTable::find(std::string_view id) const {
  return slots_.empty() ? -1 : slots_[slot_of(id)];
}

Split random_split(index_t count, double fraction, Rng rng) {
  if (!(fraction >= 0 && fraction < 1)) {
    throw ValueError(fmt::format("split: expected a fraction in [0, 1); got {}", fraction));
  }
  const auto part = static_cast<index_t>(std::llround(fraction * static_cast<double>(count)));
  Split split;
  split.second = rng.choose(count, part);
  split.first.reserve(static_cast<std::size_t>(count - part));
  auto taken = split.second.begin();
  for (index_t i = 0; i < count; ++i) {
    if (taken != split.second.end() && *taken == i) {
      ++taken;
    } else {
      split.first.push_back(i);
    }
  }
  return split;
}

RatingMatrix rating_matrix(const Ratings& ratings, const std::vector<index_t>& positions) {
  std::vector<Entry> entries;
  entries.reserve(positions.size());
  for (const index_t i : positions) {
    if (i < 0 || i >= ratings.size()) {
      throw ValueError(fmt::format("ratings: position {} is outside [0, {})", i, ratings.size()));
    }
    const auto at = static_cast<std::size_t>(i);
    entries.push_back({ratings.user[at], ratings.item[at]});
  }
  RatingMatrix matrix;
  matrix.omega = IndexSet(ratings.users.size(), ratings.items.size(), entries);
  matrix.values = Tensor<double>({static_cast<index_t>(positions.size())});
  double* values = matrix.values.mutable_data();
  const auto& place = matrix.omega.position_of_input();
  for (std::size_t k = 0; k < positions.size(); ++k) {
    values[place[k]] = ratings.value[static_cast<std::size_t>(positions[k])];
  }
  return matrix;
}

RatingMatrix rating_matrix(const Ratings& ratings) {
  std::vector<index_t> all(static_cast<std::size_t>(ratings.size()));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<index_t>(i);
  return rating_matrix(ratings, all);
}

void write_generated_ratings(const std::string& path, index_t users, index_t items, index_t rank,
                             index_t count, double noise, Rng rng,
                             const std::function<void()>& between) {
  constexpr index_t most = (index_t{1} << 31) - 1;
  if (users < 1 || items < 1 || users > most || items > most) {
    throw ValueError(fmt::format("generate: expected 1 to 2^31 - 1 users and items; got {} and {}",
                                 users, items));
  }
  if (rank < 1 || rank > std::min(users, items)) {
    throw ValueError(fmt::format("generate: expected a rank from 1 to {}, the smaller side; got {}",
                                 std::min(users, items), rank));
  }
  if (count < 1 || count > users * items || count > most) {
    throw ValueError(fmt::format("generate: expected 1 to {} ratings for {} x {}; got {}",
                                 std::min(users * items, most), users, items, count));
  }
  if (!(noise >= 0) || !std::isfinite(noise)) {
    throw ValueError(fmt::format("generate: expected a noise >= 0; got {}", noise));
  }
  Rng draw_a = rng.split("users");
  Rng draw_b = rng.split("items");
  Rng draw_noise = rng.split("noise");
  Rng draw_places = rng.split("places");
  const Tensor<double> a = draw_a.normal<double>({users, rank});
  const Tensor<double> b = draw_b.normal<double>({items, rank});
  const double factor = 1.0 / std::sqrt(static_cast<double>(rank));
  write_file_atomically(path, [&](AtomicFile& file) {
    file.write("user,item,rating\n");
    fmt::memory_buffer line;
    for (const index_t place : draw_places.choose(users * items, count)) {
      const index_t u = place / items;
      const index_t i = place % items;
      double value = 0;
      for (index_t k = 0; k < rank; ++k) value += a.data()[u * rank + k] * b.data()[i * rank + k];
      if (between) between();
      value = factor * value + (noise > 0 ? noise * draw_noise.normal() : 0.0);
      line.clear();
      fmt::format_to(std::back_inserter(line), "u{},i{},{:.6g}\n", u + 1, i + 1, value);
      file.write(std::string_view(line.data(), line.size()));
    }
  });
}

}  // namespace parsimony
