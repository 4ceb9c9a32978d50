// MovieLens 100K for the experiment: ids as row and column numbers, the official fold u1 and a
// seeded 80/20 split, each as pairs and as index sets with values.
#pragma once

#include <parsimony/completion.hpp>
#include <parsimony/error.hpp>
#include <parsimony/ratings.hpp>
#include <parsimony/run.hpp>

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace parsimony::lab {

// What u.data and u1.test of MovieLens 100K have; other files would be judged as if they were it.
constexpr index_t movielens_users = 943, movielens_items = 1682;
constexpr index_t movielens_ratings = 100000, movielens_tested = 20000;

/// Ids are 1 ... `count`, so that rows and columns are the ids less 1.
inline std::int32_t number_of(const std::string& where, std::string_view id, index_t count) {
  std::int32_t value = 0;
  const auto result = std::from_chars(id.data(), id.data() + id.size(), value);
  if (result.ec != std::errc() || result.ptr != id.data() + id.size() || value < 1 ||
      value > count) {
    throw InputError(where + ": expected an id in 1.." + std::to_string(count) + "; got '" +
                     printable(id) + "'");
  }
  return value - 1;
}

/// @throws InputError naming the file, and the rating by its place in it, unless it has `count`
/// ratings 1 ... 5 of the users and items there are.
inline RatedPairs read_by_id(const std::string& path, index_t count) {
  RatingsFormat format;
  format.header = RatingsFormat::Header::no;
  format.low = 1;
  format.high = 5;
  const Ratings r = read_ratings(path, format);
  if (r.size() != count) {
    throw InputError(path + ": expected the " + std::to_string(count) +
                     " ratings of MovieLens 100K; got " + std::to_string(r.size()));
  }
  RatedPairs pairs;
  for (std::size_t i = 0; i < r.user.size(); ++i) {
    const std::string where = path + ": rating " + std::to_string(i + 1);
    pairs.user.push_back(number_of(where + ", user", r.users.name(r.user[i]), movielens_users));
    pairs.item.push_back(number_of(where + ", item", r.items.name(r.item[i]), movielens_items));
    if (r.value[i] != std::floor(r.value[i])) {
      throw InputError(where + ": expected 1, 2, 3, 4 or 5; got " + std::to_string(r.value[i]));
    }
  }
  pairs.value = r.value;
  return pairs;
}

/// Which of `all` the fold has. @throws InputError if it has another one.
inline std::vector<bool> members(const RatedPairs& all, const std::string& path,
                                 const RatedPairs& fold) {
  std::vector<std::size_t> place(static_cast<std::size_t>(movielens_users * movielens_items));
  const auto cell = [](const RatedPairs& pairs, std::size_t i) {
    return static_cast<std::size_t>(pairs.user[i] * movielens_items + pairs.item[i]);
  };
  for (std::size_t i = 0; i < all.user.size(); ++i) place[cell(all, i)] = i + 1;  // 0: none
  std::vector<bool> out(all.user.size(), false);
  for (std::size_t i = 0; i < fold.user.size(); ++i) {
    const std::size_t found = place[cell(fold, i)];
    if (found == 0 || all.value[found - 1] != fold.value[i]) {
      throw InputError(path + ": rating " + std::to_string(i + 1) + ", user " +
                       std::to_string(fold.user[i] + 1) + " and item " +
                       std::to_string(fold.item[i] + 1) +
                       ": expected a rating of u.data; it has another one there, or none");
    }
    out[found - 1] = true;
  }
  return out;
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
  split.omega = positions(split.train, movielens_users, movielens_items, split.values);
  split.test_set = positions(split.test, movielens_users, movielens_items, split.test_values);
  return split;
}

inline std::vector<SplitData> load(const Run& run) {
  const std::string where = "https://files.grouplens.org/datasets/movielens/ml-100k.zip";
  const RatedPairs all =
      read_by_id(run.data_file("movielens-100k/u.data", where), movielens_ratings);
  const std::string fold = run.data_file("movielens-100k/u1.test", where);
  const std::vector<bool> official = members(all, fold, read_by_id(fold, movielens_tested));
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
