// Tables of ratings: lines of user, item, rating in a text file of nearly any dialect, turned into
// numbered triplets. Every line that cannot be used is reported with its number.
#pragma once

#include <parsimony/error.hpp>
#include <parsimony/rng.hpp>
#include <parsimony/sparse.hpp>
#include <parsimony/strings.hpp>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace parsimony {

/// Text ids, numbered 0, 1, ... in the order in which they first appear.
class IdTable {
 public:
  index_t size() const { return static_cast<index_t>(offsets_.size()) - 1; }
  /// The number of an id, a new one if it was not seen before.
  index_t insert(std::string_view id);
  /// The number of an id, or -1.
  index_t find(std::string_view id) const;
  /// Valid until the next insert. @throws ValueError if out of range.
  std::string_view name(index_t number) const;

 private:
  std::string_view text(std::size_t number) const;
  std::size_t slot_of(std::string_view id) const;
  void grow();

  std::string text_;  // all names, one after the other
  std::vector<std::size_t> offsets_ = {0};
  std::vector<std::int32_t> slots_;  // open addressing, -1 = free, a power of two of them
};

/// What to do with a user and item that are rated twice.
enum class Duplicates { error, first, last, mean };

struct RatingsFormat {
  /// Between columns: "\t", ",", "::", ";", "|" or any other text; " " is any run of blanks.
  /// Empty: found out from the first lines.
  std::string delimiter;
  enum class Header { detect, yes, no };
  Header header = Header::detect;
  /// User, item and rating (for pairs: user and item) by the header's names or 1-based numbers.
  /// Empty: by usual names ("userId", "movie_id", "score", ...) of a header, the first columns if
  /// it has none of them.
  std::vector<std::string> columns;
  /// Ratings outside are bad lines.
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  Duplicates duplicates = Duplicates::error;
  /// Bad lines are left out and counted instead of refused.
  bool skip_bad = false;
};

/// A table that cannot be used as it is, and what of RatingsFormat would change that.
class RatingsError : public InputError {
 public:
  enum class Remedy { columns, skip_bad, duplicates, skip_bad_and_duplicates };
  RatingsError(const std::string& message, Remedy remedy) : InputError(message), remedy_(remedy) {}
  Remedy remedy() const { return remedy_; }

 private:
  Remedy remedy_;
};

/// Rated (user, item) pairs in the order of the file.
struct Ratings {
  IdTable users, items;
  std::vector<std::int32_t> user, item;  // numbers in the tables
  std::vector<double> value;             // empty for pairs

  index_t size() const { return static_cast<index_t>(user.size()); }

  // How the file was read.
  index_t lines = 0;                          // that are not blank, the header left out
  index_t skipped = 0;                        // bad lines left out
  index_t merged = 0;                         // duplicates left out or averaged
  std::vector<std::string> skipped_examples;  // "line 7: ...", up to 10
  std::string dialect;                        // "comma, header, columns userId, movieId, rating"
  std::string delimiter;
};

/// Reads a table of ratings; "-" is the standard input. CRLF, a UTF-8 byte order mark, blank lines,
/// blanks around fields and CSV quotes are understood; columns beyond the three (a timestamp) are
/// counted but not read.
/// @throws InputError naming the file if it is missing, empty, binary, or without three columns.
/// @throws RatingsError if only some of the three have a usual name in the header, and with the
/// numbers of up to 10 lines if a line has another count of columns, an empty id, a rating that is
/// no finite number or out of range, or repeats a pair.
/// @throws ValueError on a format that contradicts itself.
Ratings read_ratings(const std::string& path, const RatingsFormat& format = {});

/// Reads pairs of user and item (`value` stays empty, repeated pairs are kept). Of a table with
/// more columns the usual names or the first two are taken. What the format says of the delimiter
/// and the columns counts as far as it fits: pairs may come from elsewhere than the ratings. Where
/// `known` ratings are given, a first line of two words (no digits) that are none of their users
/// and items is a header too.
Ratings read_pairs(const std::string& path, const RatingsFormat& format = {},
                   const Ratings* known = nullptr);

/// Positions [0, count) split at random: round(fraction * count) for the second part, both
/// ascending. @throws ValueError unless 0 <= fraction < 1.
struct Split {
  std::vector<index_t> first, second;
};
Split random_split(index_t count, double fraction, Rng rng);

/// Ratings at some positions, as a matrix: the index set and its values in CSR order.
struct RatingMatrix {
  IndexSet omega;
  Tensor<double> values;  // (|Ω|)
};
/// @throws ValueError on positions out of range or pairs given twice.
RatingMatrix rating_matrix(const Ratings& ratings, const std::vector<index_t>& positions);
RatingMatrix rating_matrix(const Ratings& ratings);

/// Writes `count` ratings at distinct random places of a (users, items) matrix of this rank as CSV
/// with a header: value = <a_u, b_i> / √rank + noise, all normal, so that the standard deviation is
/// near √(1 + noise²). Ids are "u1", "i1", .... The file appears whole or not at all; `between` is
/// called at every rating and may throw to stop.
/// @throws ValueError on sizes < 1, rank > min(users, items), or count > users * items; IoError.
void write_generated_ratings(const std::string& path, index_t users, index_t items, index_t rank,
                             index_t count, double noise, Rng rng,
                             const std::function<void()>& between = nullptr);

}  // namespace parsimony
