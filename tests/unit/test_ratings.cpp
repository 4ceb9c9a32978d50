// Reading tables of ratings: dialects, what is refused with its line number, duplicates, splits.
#include <parsimony/error.hpp>
#include <parsimony/ratings.hpp>

#include <cmath>
#include <cstdio>
#include <set>
#include <string>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using parsimony::testing::contains;

namespace {

/// A file that is removed at the end of the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes) : path_(folder_ / "ratings.txt") {
    parsimony::testing::write_raw(path_, bytes);
  }
  const std::string& path() const { return path_; }

 private:
  parsimony::testing::TempFolder folder_;
  std::string path_;
};

Ratings read(const std::string& text, const RatingsFormat& format = {}) {
  return read_ratings(TemporaryFile(text).path(), format);
}

std::string error_of(const std::string& text, const RatingsFormat& format = {}) {
  try {
    read(text, format);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

/// "user/item=value ..." in the order of the file.
std::string triplets(const Ratings& r) {
  std::string out;
  for (std::size_t i = 0; i < r.value.size(); ++i) {
    char value[32];
    std::snprintf(value, sizeof value, "%g", r.value[i]);
    out += (i > 0 ? " " : "") + std::string(r.users.name(r.user[i])) + "/" +
           std::string(r.items.name(r.item[i])) + "=" + value;
  }
  return out;
}

}  // namespace

TEST_CASE("ratings: one table in every dialect", "[ratings]") {
  const std::string expected = "u1/i7=4 u1/i9=3.5 u2/i7=1";
  CHECK(triplets(read("u1\ti7\t4\nu1\ti9\t3.5\nu2\ti7\t1\n")) == expected);
  CHECK(triplets(read("u1,i7,4\nu1,i9,3.5\nu2,i7,1")) == expected);
  CHECK(triplets(read("u1::i7::4::881250949\nu1::i9::3.5::1\nu2::i7::1::2\n")) == expected);
  CHECK(triplets(read("u1;i7;4\r\nu1;i9;3.5\r\nu2;i7;1\r\n")) == expected);
  CHECK(triplets(read("u1|i7|4\nu1|i9|3.5\n\nu2|i7|1\n\n")) == expected);
  CHECK(triplets(read("u1 i7  4\n u1\ti9 3.5\nu2 i7 1 \n")) == expected);
  CHECK(triplets(read(
            "\xef\xbb\xbfuserId,movieId,rating\r\nu1,i7,4.0\r\nu1 , i9 ,+3.5\r\nu2,i7,1e0\r\n")) ==
        expected);
  CHECK(triplets(read("\"u1\",\"i7\",\"4\"\n\"u1\",\"i9\",3.5\n\"u2\",i7,1\n")) == expected);
  RatingsFormat format;
  format.delimiter = "~~";
  CHECK(triplets(read("u1~~i7~~4\nu1~~i9~~3.5\nu2~~i7~~1\n", format)) == expected);
}

TEST_CASE("ratings: lines that two delimiters split alike", "[ratings]") {
  const std::string expected = "u1/i7=4 u1/i9=3.5 u2/i7=1";
  // Lists in a further column, ids with signs.
  for (const std::string list : {",12::30::5", ",3|4|2", ",A|B|C", ",\"x;y;z\"", ",a b c"}) {
    CAPTURE(list);
    CHECK(triplets(read("u1,i7,4" + list + "\nu1,i9,3.5" + list + "\nu2,i7,1" + list + "\n")) ==
          expected);
  }
  CHECK(triplets(read("u1::i7::4::a,b,c,d\nu1::i9::3.5::e,f,g,h\nu2::i7::1::i,j,k,l\n")) ==
        expected);
  // Pairs are split as the ratings were.
  const Ratings known = read("user,item,rating\nu1,cat|i7,4\nu2,cat|i9,3\n");
  const Ratings pairs =
      read_pairs(TemporaryFile("u2,cat|i7\nu1,cat|i9\n").path(), RatingsFormat(), &known);
  CHECK(pairs.users.name(0) == "u2");
  CHECK(pairs.items.name(0) == "cat|i7");
  const Ratings tabs =
      read_pairs(TemporaryFile("u2\tcat|i7\nu1\tcat|i9\n").path(), RatingsFormat(), &known);
  CHECK(tabs.items.name(0) == "cat|i7");
}

TEST_CASE("ratings: quotes hide delimiters, doubled quotes are quotes", "[ratings]") {
  const Ratings r = read("user,item,rating\n\"Smith, J.\",\"5\"\" disk\",2\nLee,\"a\"  , 3\n");
  CHECK(triplets(r) == "Smith, J./5\" disk=2 Lee/a=3");
  CHECK(triplets(read("\"a b\" x 1\nc \"d e\" 2\n")) == "a b/x=1 c/d e=2");
  CHECK_THAT(error_of("a,b,1\n\"c,d,2\ne,f,3\n"), contains("line 2: a quote is not closed"));
  CHECK_THAT(error_of("a,b,1\n\"c\"x,d,2\ne,f,3\n"),
             contains("line 2: text follows a closing quote"));
}

TEST_CASE("ratings: columns by usual names, by name and by number", "[ratings]") {
  CHECK(triplets(read("rating,timestamp,movie_id,user_id\n4,99,m,u\n")) == "u/m=4");
  CHECK(triplets(read("when,who,what,how\n99,u,m,4\n", [] {
          RatingsFormat f;
          f.columns = {"who", "what", "how"};
          return f;
        }())) == "u/m=4");
  RatingsFormat numbers;
  numbers.columns = {"2", "3", "4"};
  CHECK(triplets(read("99,7,8,4\n98,7,9,3\n", numbers)) == "7/8=4 7/9=3");
  CHECK(triplets(read("when,who,what,how\n99,u,m,4\n", numbers)) == "u/m=4");
  RatingsFormat misspelt;
  misspelt.columns = {"who", "what", "hov"};
  CHECK_THAT(error_of("when,who,what,how\n99,u,m,4\n", misspelt),
             contains("no column 'hov' in the header; it has when, who, what, how"));
  numbers.columns = {"1", "2", "9"};
  CHECK_THAT(error_of("1,2,3\n", numbers), contains("there is no column 9"));
}

TEST_CASE("ratings: two columns of one role", "[ratings]") {
  // Names of a plain matrix give way to better ones.
  CHECK(triplets(read("row,userId,movieId,rating\n1,u1,i7,4\n2,u1,i9,3.5\n")) ==
        "u1/i7=4 u1/i9=3.5");
  CHECK(triplets(read("value,user,item,rating\n9,u1,i7,4\n8,u1,i9,3.5\n")) == "u1/i7=4 u1/i9=3.5");
  CHECK(triplets(read("row,col,value\nu1,i7,4\nu1,i9,3.5\n")) == "u1/i7=4 u1/i9=3.5");
  CHECK_THAT(error_of("customer,member,item,rating\nc,u1,i7,4\n"),
             contains("two columns that may be the user, customer and member"));
  RatingsFormat format;
  format.columns = {"1", "01", "2"};
  CHECK_THROWS_WITH(read("a,b,3\n", format), contains("column '01' is given twice"));
}

TEST_CASE("ratings: a header with some of the usual names is never read by position", "[ratings]") {
  // The column that is left is the one without a name.
  CHECK(triplets(read("points,user,item\n4,u,m\n")) == "u/m=4");
  CHECK(triplets(read("timestamp,user,movie,points\n99,u,m,4\n")) == "u/m=4");
  CHECK(triplets(read(",user,movie,points\n0,u,m,4\n")) == "u/m=4");
  CHECK(triplets(read("rating,user,thing\n4,u,m\n")) == "u/m=4");
  const auto unclear = [](const std::string& header, const std::string& message) {
    INFO(header);
    const std::string error = error_of(header + "\n1,u,3,4\n");
    CHECK_THAT(error, contains(message) && contains("it has " + [&header] {
                        std::string names;
                        for (const char c : header) names += c == ',' ? ", " : std::string(1, c);
                        return names;
                      }()));
  };
  unclear("id,user,item,points", "does not say which column is the rating");
  unclear("a,user,c,rating", "does not say which column is the item");
  unclear("a,user,c,d", "does not say which column is the item and which the rating");
  // With none of them the first columns count, a time aside.
  CHECK(triplets(read("who,what,how,when\nu,m,4,99\n")) == "u/m=4");
  CHECK(triplets(read("date,who,what,how\nmonday,u,m,4\n")) == "u/m=4");
  RatingsFormat format;
  format.columns = {"user", "item", "points"};
  CHECK(triplets(read("id,user,item,points\n1,u,m,4\n", format)) == "u/m=4");
  try {
    read("id,user,item,points\n1,u,m,4\n");
    FAIL("no error");
  } catch (const RatingsError& error) {
    CHECK(error.remedy() == RatingsError::Remedy::columns);
  }
}

TEST_CASE("ratings: headers are seen, and can be forced", "[ratings]") {
  CHECK(read("a,b,c\nx,y,3\n").size() == 1);
  CHECK(read("x,y,3\nx,z,4\n").size() == 2);
  RatingsFormat format;
  format.header = RatingsFormat::Header::yes;
  CHECK(read("x,y,3\nx,z,4\n", format).size() == 1);
  format.header = RatingsFormat::Header::no;
  CHECK_THAT(error_of("a,b,c\nx,y,3\n", format), contains("line 1: rating 'c' is not a number"));
  // A bad first line of a table of numbers is no header.
  CHECK_THAT(error_of("1,2,x\n1,3,4\n"), contains("line 1: rating 'x' is not a number"));
  // Nor is one where the rating is missing.
  for (const char* text : {"n/a", "N/A", "nan", "NULL", "None", "-inf", "?", "-", "...", "4.5/5"}) {
    INFO(text);
    CHECK_THAT(error_of("alice,matrix," + std::string(text) + "\nbob,matrix,4\n"),
               contains("line 1: rating '" + std::string(text) + "' is not a"));
  }
  CHECK_THAT(error_of("alice,matrix,\nbob,matrix,4\n"), contains("line 1: the rating is empty"));
  CHECK(read("wer,was,bewertung\nu,m,4\n").size() == 1);
  CHECK(read("кто,что,оценка\nu,m,4\n").size() == 1);
}

TEST_CASE("ratings: bad lines are listed with their numbers", "[ratings]") {
  const std::string text =
      "user,item,rating\n1,1,4\n\n1,2,abc\n1,3,nan\n1,4,inf\n1,5\n1,6,3,9\n,7,3\n1,,3\n1,8,\n"
      "1,9,1e999\n1,10,3,5\n1,11,2\n";
  const std::string error = error_of(text);
  CHECK_THAT(error, contains("10 lines cannot be used"));
  CHECK_THAT(error, contains("line 4: rating 'abc' is not a number"));
  CHECK_THAT(error, contains("line 5: rating 'nan' is not a finite number"));
  CHECK_THAT(error, contains("line 6: rating 'inf' is not a finite number"));
  CHECK_THAT(error, contains("line 7: expected 3 columns; got 2"));
  CHECK_THAT(error, contains("line 8: expected 3 columns; got 4"));
  CHECK_THAT(error, contains("line 9: the user is empty"));
  CHECK_THAT(error, contains("line 10: the item is empty"));
  CHECK_THAT(error, contains("line 11: the rating is empty"));
  CHECK_THAT(error, contains("line 12: rating '1e999' is not a finite number"));

  RatingsFormat format;
  format.skip_bad = true;
  const Ratings r = read(text, format);
  CHECK(triplets(r) == "1/1=4 1/11=2");
  CHECK(r.skipped == 10);
  CHECK(r.lines == 12);
  CHECK(r.skipped_examples.size() == 10);
  CHECK(r.users.size() == 1);
  CHECK(r.items.size() == 2);  // items of skipped lines do not count

  std::string many;
  for (int i = 0; i < 25; ++i) many += "1," + std::to_string(i) + ",x\n";
  CHECK_THAT(error_of("1,99,1\n" + many), contains("and 15 more"));
}

TEST_CASE("ratings: a range refuses what lies outside", "[ratings]") {
  RatingsFormat format;
  format.low = 1;
  format.high = 5;
  CHECK(read("1,1,1\n1,2,5\n", format).size() == 2);
  CHECK_THAT(error_of("1,1,1\n1,2,5.5\n1,3,-1\n", format),
             contains("line 2: rating 5.5 is outside 1..5"));
  CHECK_THAT(error_of("1,1,1\n1,2,5.5\n1,3,-1\n", format),
             contains("line 3: rating -1 is outside"));
  format.low = 6;
  CHECK_THROWS_AS(read("1,1,1\n", format), ValueError);
}

TEST_CASE("ratings: pairs given twice", "[ratings]") {
  const std::string text = "a,x,1\nb,x,5\n\na,x,2\na,y,3\na,x,6\n";
  const std::string error = error_of(text);
  CHECK_THAT(error, contains("2 lines cannot be used"));
  CHECK_THAT(error, contains("line 4: user 'a' and item 'x' were rated before, in line 1"));
  CHECK_THAT(error, contains("line 6: user 'a' and item 'x' were rated before, in line 1"));
  RatingsFormat format;
  format.duplicates = Duplicates::first;
  CHECK(triplets(read(text, format)) == "a/x=1 b/x=5 a/y=3");
  format.duplicates = Duplicates::last;
  CHECK(triplets(read(text, format)) == "a/x=6 b/x=5 a/y=3");
  format.duplicates = Duplicates::mean;
  CHECK(triplets(read(text, format)) == "a/x=3 b/x=5 a/y=3");
  CHECK(read(text, format).merged == 2);
}

TEST_CASE("ratings: files that are no tables", "[ratings]") {
  CHECK_THROWS_WITH(read_ratings("no/such/file.csv"), contains("no/such/file.csv"));
  CHECK_THROWS_AS(read_ratings("no/such/file.csv"), InputError);
  CHECK_THROWS_WITH(read_ratings("."), contains("folder"));
  CHECK_THAT(error_of(""), contains("empty"));
  CHECK_THAT(error_of("\n \r\n\n"), contains("blank lines"));
  CHECK_THAT(error_of("user,item,rating\n"), contains("no line below"));
  CHECK_THAT(error_of(std::string("1,2,3\n1,\0,4\n", 12)),
             contains("line 2, byte 3: expected text; got a NUL byte"));
  CHECK_THAT(error_of("\x1f\x8b\x08 and so on"), contains("compressed"));
  CHECK_THAT(error_of(std::string("\xff\xfe"
                                  "1\0,\0",
                                  6)),
             contains("UTF-16"));
  CHECK_THAT(error_of("user,item,rating\r1,2,3\r4,5,2\r"), contains("CR alone"));
  CHECK_THAT(error_of("only\none\ncolumn\n"),
             contains("expected at least 3 columns") && contains("or blank splits it so"));
  CHECK_THAT(error_of(std::string(3 << 20, 'x')), contains("columns"));
  CHECK_THAT(error_of("1,2,3\n" + std::string(3 << 20, 'x')),
             contains("line 2 is longer than 1 MiB"));
  // A file cut off within its last line.
  CHECK_THAT(error_of("1,2,3,881250949\n1,3,4,881250949\n2,3"),
             contains("line 3: expected 4 columns; got 2"));
}

TEST_CASE("ratings: lines across the blocks of the reader", "[ratings]") {
  std::string text = "user,item,rating\n";
  index_t count = 0;
  double total = 0;
  while (text.size() < (std::size_t{5} << 19)) {
    const int value = static_cast<int>(count % 5) + 1;
    text += "user" + std::to_string(count / 100) + ",item" + std::to_string(count % 100) + "," +
            std::to_string(value) + "\r\n";
    total += value;
    ++count;
  }
  const Ratings r = read(text);
  REQUIRE(r.size() == count);
  double sum = 0;
  for (const double v : r.value) sum += v;
  CHECK(sum == total);
  CHECK(r.items.size() == 100);
  CHECK(r.users.size() == (count + 99) / 100);
  CHECK_THAT(error_of(text + "user0,item0,1\n"),
             contains("line " + std::to_string(count + 2) +
                      ": user 'user0' and item 'item0' were rated before, in line 2"));
}

TEST_CASE("ratings: ids are numbered as they appear and found again", "[ratings]") {
  IdTable ids;
  CHECK(ids.find("x") == -1);
  for (int i = 0; i < 5000; ++i) REQUIRE(ids.insert("id" + std::to_string(i)) == i);
  for (int i = 0; i < 5000; ++i) REQUIRE(ids.insert("id" + std::to_string(i)) == i);
  CHECK(ids.size() == 5000);
  CHECK(ids.find("id4999") == 4999);
  CHECK(ids.find("id5000") == -1);
  CHECK(ids.name(17) == "id17");
  CHECK_THROWS_AS(ids.name(5000), ValueError);
  CHECK(ids.insert("") == 5000);
  CHECK(ids.find("") == 5000);
}

TEST_CASE("ratings: pairs", "[ratings]") {
  const auto pairs = [](const std::string& text, const RatingsFormat& format = {}) {
    return read_pairs(TemporaryFile(text).path(), format);
  };
  CHECK(pairs("1,2\n1,3\n1,2\n").size() == 3);
  CHECK(pairs("userId,movieId\n1,2\n").size() == 1);
  CHECK(pairs("1\t2\t3\t881250949\n").size() == 1);
  const Ratings r = pairs("rating,item,user\n5,i,u\n");
  REQUIRE(r.size() == 1);
  CHECK(r.users.name(0) == "u");
  CHECK(r.items.name(0) == "i");
  RatingsFormat format;
  format.columns = {"who", "what", "how"};
  CHECK(pairs("what,who\ni,u\n", format).users.name(0) == "u");
  CHECK_THROWS_WITH(pairs("1\n2\n"), contains("expected at least 2 columns"));
  const Ratings left = pairs("movieId,user,member_number\nm,u,7\n");
  CHECK(left.users.name(0) == "u");
  CHECK(left.items.name(0) == "m");

  SECTION("what is said of the ratings holds as far as it fits") {
    RatingsFormat elsewhere;
    elsewhere.columns = {"2", "3", "5"};
    const Ratings r2 = pairs("u,i\n", elsewhere);
    CHECK(r2.users.name(0) == "u");
    CHECK(r2.items.name(0) == "i");
    elsewhere = {};
    elsewhere.delimiter = ";";
    CHECK(pairs("u,i\nv,j\n", elsewhere).users.name(1) == "v");
    CHECK(pairs("u,1;i\nv,2;j\n", elsewhere).users.name(1) == "v,2");
    CHECK_THROWS_WITH(pairs("1\n2\n", elsewhere), contains("no tab, comma"));
  }

  SECTION("a first line of words that the ratings do not know is a header") {
    const Ratings known = read_ratings(TemporaryFile("ann,pie,3\nu2,i2,4\n").path());
    const auto size = [&known](const std::string& text, const RatingsFormat& f = {}) {
      return read_pairs(TemporaryFile(text).path(), f, &known).size();
    };
    CHECK(size("u,i\nann,pie\nu2,i2\n") == 2);
    CHECK(size("ann,pie\nu2,i2\n") == 2);
    CHECK(size("ann,tart\nu2,i2\n") == 2);
    CHECK(size("u3,i9\nu2,i2\n") == 2);
    const Ratings r2 =
        read_pairs(TemporaryFile("movieId,member_number\ni2,u2\n").path(), {}, &known);
    CHECK(r2.users.name(0) == "u2");
    RatingsFormat none;
    none.header = RatingsFormat::Header::no;
    CHECK(size("u,i\nu2,i2\n", none) == 2);
  }
}

TEST_CASE("ratings: splits and matrices", "[ratings]") {
  const Split split = random_split(1000, 0.25, Rng(3));
  CHECK(split.second.size() == 250);
  std::set<index_t> all(split.first.begin(), split.first.end());
  all.insert(split.second.begin(), split.second.end());
  CHECK(all.size() == 1000);
  CHECK(*all.rbegin() == 999);
  CHECK(random_split(1000, 0.25, Rng(3)).second == split.second);
  CHECK(random_split(1000, 0.25, Rng(4)).second != split.second);
  CHECK_THROWS_AS(random_split(10, 1.0, Rng(1)), ValueError);

  const Ratings r = read("a,x,1\nb,y,2\na,y,3\nc,x,4\n");
  const RatingMatrix matrix = rating_matrix(r, {2, 0, 3});
  CHECK(matrix.omega.rows() == 3);  // user b keeps its empty row
  CHECK(matrix.omega.cols() == 2);
  CHECK(matrix.values.to_vector() == std::vector<double>{1, 3, 4});
}

TEST_CASE("ratings: a generated table has the rank and the size asked for", "[ratings]") {
  const TemporaryFile file("");
  write_generated_ratings(file.path(), 30, 20, 2, 600, 0.0, Rng(1));
  const RatingMatrix matrix = rating_matrix(read_ratings(file.path()));
  REQUIRE(matrix.omega.size() == 600);
  // Full and of rank 2: every 3 x 3 minor vanishes (values have six digits).
  const double* a = matrix.values.data();
  double largest = 0;
  for (int i = 0; i + 2 < 30; i += 3) {
    const double* r0 = a + i * 20;
    const double* r1 = r0 + 20;
    const double* r2 = r1 + 20;
    const double det = r0[0] * (r1[1] * r2[2] - r1[2] * r2[1]) -
                       r0[1] * (r1[0] * r2[2] - r1[2] * r2[0]) +
                       r0[2] * (r1[0] * r2[1] - r1[1] * r2[0]);
    largest = std::max(largest, std::abs(det));
  }
  CHECK(largest < 1e-4);
  CHECK(std::abs(a[0] * a[21] - a[1] * a[20]) > 1e-3);  // and not of rank 1
  CHECK_THROWS_AS(write_generated_ratings(file.path(), 3, 2, 3, 6, 0.0, Rng(1)), ValueError);
  CHECK_THROWS_AS(write_generated_ratings(file.path(), 3, 2, 2, 7, 0.0, Rng(1)), ValueError);
}

TEST_CASE("ratings: text for messages", "[ratings]") {
  CHECK(printable("plain") == "plain");
  CHECK(printable(std::string("a\x01\xff", 3)) == "a\\x01\\xff");
  CHECK(printable("é") == "é");
  CHECK(printable(std::string(50, 'x')) == std::string(40, 'x') + "...");
}
