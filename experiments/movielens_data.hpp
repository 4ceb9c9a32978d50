// MovieLens 100K for the experiment: ids as row and column numbers, the official fold u1 and a
// seeded 80/20 split, each as pairs and as index sets with values.
#pragma once

#include <parsimony/completion.hpp>
#include <parsimony/error.hpp>
#include <parsimony/ratings.hpp>
#include <parsimony/run.hpp>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace parsimony::lab {

/// MovieLens ids are 1 ... n, so that rows and columns are the ids less 1.
inline std::int32_t number_of(std::string_view id) {
  std::int32_t value = 0;
  const auto result = std::from_chars(id.data(), id.data() + id.size(), value);
  if (result.ec != std::errc() || result.ptr != id.data() + id.size() || value < 1) {
    throw InputError("movielens: expected ids 1, 2, ...; got '" + printable(id) + "'");
  }
  return value - 1;
}

inline RatedPairs by_id(const Ratings& r) {
  RatedPairs pairs;
  for (std::size_t i = 0; i < r.user.size(); ++i) {
    pairs.user.push_back(number_of(r.users.name(r.user[i])));
    pairs.item.push_back(number_of(r.items.name(r.item[i])));
  }
  pairs.value = r.value;
  return pairs;
}

/// A training part, as pairs and as a matrix, and a test part.
struct SplitData {
  std::string name;
  RatedPairs train, test;
  IndexSet omega;
  Tensor<double> values;
  IndexSet test_set;           // where the test ratings are
  Tensor<double> test_values;  // in its order
};

inline IndexSet positions(const RatedPairs& pairs, index_t users, index_t items,
                          Tensor<double>& values) {
  std::vector<Entry> entries;
  for (std::size_t i = 0; i < pairs.user.size(); ++i)
    entries.push_back({pairs.user[i], pairs.item[i]});
  IndexSet set(users, items, entries);
  values = Tensor<double>({set.size()});
  double* v = values.mutable_data();
  for (std::size_t i = 0; i < pairs.user.size(); ++i)
    v[set.position_of_input()[i]] = pairs.value[i];
  return set;
}

inline SplitData split_data(const std::string& name, const RatedPairs& all,
                            const std::vector<bool>& in_test) {
  SplitData split;
  split.name = name;
  for (std::size_t i = 0; i < in_test.size(); ++i) {
    RatedPairs& part = in_test[i] ? split.test : split.train;
    part.user.push_back(all.user[i]);
    part.item.push_back(all.item[i]);
    part.value.push_back(all.value[i]);
  }
  const index_t users = 1 + *std::max_element(all.user.begin(), all.user.end());
  const index_t items = 1 + *std::max_element(all.item.begin(), all.item.end());
  split.omega = positions(split.train, users, items, split.values);
  split.test_set = positions(split.test, users, items, split.test_values);
  return split;
}

inline std::vector<SplitData> load(const Run& run) {
  const std::string where = "https://files.grouplens.org/datasets/movielens/ml-100k.zip";
  const RatedPairs all = by_id(read_ratings(run.data_file("movielens-100k/u.data", where)));
  const RatedPairs fold = by_id(read_ratings(run.data_file("movielens-100k/u1.test", where)));
  std::vector<std::pair<std::int32_t, std::int32_t>> tested;
  for (std::size_t i = 0; i < fold.user.size(); ++i)
    tested.emplace_back(fold.user[i], fold.item[i]);
  std::sort(tested.begin(), tested.end());
  std::vector<bool> official(all.user.size());
  for (std::size_t i = 0; i < official.size(); ++i) {
    official[i] =
        std::binary_search(tested.begin(), tested.end(), std::make_pair(all.user[i], all.item[i]));
  }
  std::vector<bool> seeded(all.user.size(), false);
  for (const index_t i : random_split(all.size(), 0.2, run.rng().split("split")).second) {
    seeded[static_cast<std::size_t>(i)] = true;
  }
  return {split_data("u1", all, official), split_data("random", all, seeded)};
}

/// Rows (user, item, rating), users and items from 0.
inline Tensor<double> triplets(const IndexSet& set, const Tensor<double>& values) {
  Tensor<double> out({set.size(), 3});
  double* o = out.mutable_data();
  for (index_t row = 0; row < set.rows(); ++row) {
    const auto r = static_cast<std::size_t>(row);
    for (auto e = set.row_offsets()[r]; e < set.row_offsets()[r + 1]; ++e) {
      o[3 * e] = static_cast<double>(row);
      o[3 * e + 1] = set.columns()[static_cast<std::size_t>(e)];
      o[3 * e + 2] = values.data()[e];
    }
  }
  return out;
}

}  // namespace parsimony::lab
