// Configuration: types, presets, `--set` text, messages, JSON.
#include <parsimony/config.hpp>
#include <parsimony/error.hpp>

#include <limits>

#include "support/catch.hpp"

using namespace parsimony;
using parsimony::testing::contains;

namespace {

Config sample() {
  Config config;
  config.declare("d", index_t{30}, "side");
  config.declare("gamma", 0.01, "step of the outer factors");
  config.declare("loss", std::string("mean"), "mean or sum");
  config.declare("momentum", false, "heavy ball");
  config.declare("widths", std::vector<index_t>{10, 20}, "widths");
  config.declare("eps", std::vector<double>{1, 0.5}, "scales");
  return config;
}

}  // namespace

TEST_CASE("config: set parses into the declared type") {
  Config config = sample();
  config.set("d", "-7");
  CHECK(config.integer("d") == -7);
  config.set("d", " +12 ");
  CHECK(config.integer("d") == 12);
  config.set("gamma", "1e-3");
  CHECK(config.real("gamma") == 1e-3);
  config.set("gamma", "2");
  CHECK(config.real("gamma") == 2.0);
  config.set("loss", "a=b, c");
  CHECK(config.text("loss") == "a=b, c");
  for (const char* yes : {"true", "1", "Yes", "on"}) {
    config.set("momentum", yes);
    CHECK(config.flag("momentum"));
  }
  for (const char* no : {"false", "0", "NO", "off"}) {
    config.set("momentum", no);
    CHECK_FALSE(config.flag("momentum"));
  }
  config.set("widths", "1, 2,3");
  CHECK(config.integers("widths") == std::vector<index_t>{1, 2, 3});
  config.set("eps", "1e-2");
  CHECK(config.reals("eps") == std::vector<double>{0.01});
}

TEST_CASE("config: a key that is there, its type, a text out of several") {
  Config config;
  config.declare("form", "narrow", "of three");
  config.declare("size", index_t{3}, "a number");
  CHECK(config.has("form"));
  CHECK(!config.has("from"));
  CHECK(config.holds<index_t>("size"));
  CHECK(!config.holds<double>("size"));
  CHECK(config.text("form", {"narrow", "full"}) == "narrow");
  config.set("form", "ful");
  CHECK_THROWS_WITH(config.text("form", {"narrow", "full"}),
                    "form: expected narrow, full; got 'ful'; did you mean 'full'?");
}

TEST_CASE("config: what cannot be parsed is named and changes nothing") {
  Config config = sample();
  CHECK_THROWS_WITH(config.set("gamma", "abc"), "gamma: expected a number; got 'abc'");
  CHECK_THROWS_WITH(config.set("gamma", ""), "gamma: expected a number; got ''");
  CHECK_THROWS_WITH(config.set("gamma", "0,5"), "gamma: expected a number; got '0,5'");
  CHECK_THROWS_WITH(config.set("gamma", "inf"), "gamma: expected a number; got 'inf'");
  CHECK_THROWS_WITH(config.set("gamma", "nan"), "gamma: expected a number; got 'nan'");
  CHECK_THROWS_WITH(config.set("gamma", "1e999"), "gamma: expected a number; got '1e999'");
  CHECK_THROWS_WITH(config.set("gamma", "+-1"), "gamma: expected a number; got '+-1'");
  CHECK_THROWS_WITH(config.set("d", "3.5"), "d: expected an integer; got '3.5'");
  CHECK_THROWS_WITH(config.set("d", "12x"), "d: expected an integer; got '12x'");
  CHECK_THROWS_WITH(config.set("d", "99999999999999999999"),
                    "d: expected an integer; got '99999999999999999999'");
  CHECK_THROWS_WITH(config.set("momentum", "maybe"),
                    "momentum: expected true or false; got 'maybe'");
  CHECK_THROWS_WITH(config.set("widths", "1,,2"),
                    "widths: expected a list of integers such as 10,20,30; got '1,,2'");
  CHECK_THROWS_WITH(config.set("widths", ""), contains("a list of integers"));
  CHECK_THROWS_WITH(config.set("eps", "1,x"), contains("a list of numbers"));
  CHECK_THROWS_AS(config.set("d", "x"), ValueError);
  CHECK(config.real("gamma") == 0.01);
  CHECK(config.integer("d") == 30);
  CHECK_FALSE(config.flag("momentum"));
  CHECK(config.integers("widths") == std::vector<index_t>{10, 20});
}

TEST_CASE("config: unknown keys suggest the nearest") {
  Config config = sample();
  CHECK_THROWS_WITH(config.set("gama", "1"), "unknown key 'gama'; did you mean 'gamma'?");
  CHECK_THROWS_WITH(config.set("wdiths", "1"), "unknown key 'wdiths'; did you mean 'widths'?");
  CHECK_THROWS_WITH(config.set("zzzzzz", "1"), contains("the keys are: d, gamma, loss"));
  CHECK_THROWS_AS(config.integer("rank"), ValueError);
}

TEST_CASE("config: presets keep the type, reads check it") {
  Config config = sample();
  config.preset("d", index_t{1000});
  CHECK(config.integer("d") == 1000);
  CHECK_THROWS_WITH(config.preset("d", 3.0), contains("d: a preset gives a number"));
  CHECK_THROWS_AS(config.preset("nothing", 3.0), ValueError);
  CHECK_THROWS_AS(config.declare("d", index_t{1}, ""), ValueError);
  CHECK_THROWS_AS(config.declare("bad", std::numeric_limits<double>::infinity(), ""), ValueError);
  CHECK_THROWS_WITH(config.real("d"), contains("d: read as a number"));
}

TEST_CASE("config: ranges") {
  Config config = sample();
  CHECK(config.integer("d", 1, 30) == 30);
  CHECK_THROWS_WITH(config.integer("d", 1, 29), "d: expected 1..29; got 30");
  CHECK(config.real("gamma", 0, 1) == 0.01);
  CHECK_THROWS_WITH(config.real("gamma", 0.5, 1), "gamma: expected 0.5..1; got 0.01");
}

TEST_CASE("config: json has one key a line and numbers that read back") {
  Config config = sample();
  config.set("loss", "say \"hi\"");
  CHECK(config.json() ==
        "{\n  \"d\": 30,\n  \"gamma\": 0.01,\n  \"loss\": \"say \\\"hi\\\"\",\n"
        "  \"momentum\": false,\n  \"widths\": [10,20],\n  \"eps\": [1.0,0.5]\n}\n");
  CHECK(Config().json() == "{\n}\n");
}

TEST_CASE("nearest_name: edits, swaps, parts, and nothing when far") {
  const std::vector<std::string> names = {"dln-subspace", "sensing", "movielens"};
  CHECK(nearest_name("dln-subspce", names) == "dln-subspace");
  CHECK(nearest_name("sesning", names) == "sensing");
  CHECK(nearest_name("movie", names) == "movielens");
  CHECK(nearest_name("xyz", names) == "");
  CHECK(nearest_name("anything", {}) == "");
}
