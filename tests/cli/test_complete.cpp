// parsimony complete, as a user runs it: its table and files, what it refuses, and the exit codes.
#include <parsimony/csv.hpp>
#include <parsimony/files.hpp>
#include <parsimony/safetensors.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include <sys/stat.h>

#include "cli/process.hpp"
#include "io/nlohmann.hpp"
#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony::testing;
using nlohmann::json;
using parsimony::load_safetensors;
using parsimony::read_csv;
using parsimony::read_file;
using parsimony::Tensor;
namespace fs = std::filesystem;

namespace {

Outcome complete(std::vector<std::string> arguments, const Environment& environment = {}) {
  arguments.insert(arguments.begin(), "complete");
  return program(arguments, environment);
}

json summary(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--json", "--quiet"});
  const Outcome o = complete(arguments);
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK(o.err.empty());
  return json::parse(o.out);
}

double rmse(const json& j, const std::string& start) {
  for (const auto& m : j["methods"]) {
    if (m["name"].get<std::string>().rfind(start, 0) == 0) return m["rmse"];
  }
  FAIL("no method " << start);
  return 0;
}

/// A file of generated ratings, 200 users x 120 items.
std::string generated(const TempFolder& folder) {
  const std::string path = folder / "made.csv";
  REQUIRE(complete({"--generate", "200x120x2x9600", "--ratings", path, "--quiet"}).code == 0);
  return path;
}

void check_refused(const std::vector<std::string>& arguments, const std::string& message) {
  const Outcome o = complete(arguments);
  INFO(message);
  CHECK(o.code == 2);
  CHECK_THAT(o.err, contains(message));
  CHECK(o.out.empty());
}

}  // namespace

TEST_CASE("complete: recovers a generated table and writes what it promises") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  write_raw(folder / "pairs.csv", "user,item\nu1,i1\nu200,i120\nu1,i999\nstranger,i1\n");
  const json j = summary({"--ratings", ratings, "--rank", "4", "--predict", folder / "pairs.csv",
                          "--out", folder / "out"});
  CHECK(j["ratings"]["count"] == 9600);
  CHECK(j["ratings"]["users"] == 200);
  CHECK(j["test"]["count"] == 960);
  CHECK(j["train"] == 8640);
  CHECK(j["validation"] == 864);
  CHECK(rmse(j, "deep") < 0.2 * rmse(j, "user + item bias"));
  CHECK(j["model"]["stability_number"] < 2);
  CHECK(j["predictions"]["without_training_ratings"] == 2);

  // Predictions are those of the factors, by the formula in their metadata.
  const auto table = read_csv(folder / "out/predictions.csv");
  REQUIRE(table.rows() == 4);
  CHECK(table.strings("user")[1] == "u200");
  CHECK(table.strings("item")[2] == "i999");
  const auto map = load_safetensors(folder / "out/factors.safetensors");
  CHECK(map.shape("left") == parsimony::Shape({200, 8}));
  CHECK(map.shape("right") == parsimony::Shape({120, 8}));
  Tensor<double> left = map.get<double>("left");
  for (const char* core : {"core3", "core2", "core1"}) left = matmul(left, map.get<double>(core));
  const auto& right = map.get<double>("right");
  const auto users = read_csv(folder / "out/users.csv").strings("user");
  const auto items = read_csv(folder / "out/items.csv").strings("item");
  const auto row = [](const std::vector<std::string>& ids, const std::string& id) {
    return std::find(ids.begin(), ids.end(), id) - ids.begin();
  };
  for (std::size_t i = 0; i < 2; ++i) {
    const auto u = row(users, table.strings("user")[i]);
    const auto v = row(items, table.strings("item")[i]);
    double value = map.get<double>("mean").item() + map.get<double>("user_bias").data()[u] +
                   map.get<double>("item_bias").data()[v];
    for (int k = 0; k < 8; ++k) value += left.data()[u * 8 + k] * right.data()[v * 8 + k];
    CHECK(table.numbers("prediction")[i] == Approx(value).epsilon(1e-6));
  }
  const auto metrics = read_csv(folder / "out/metrics.csv");
  CHECK(metrics.numbers("validation_rmse").back() < metrics.numbers("validation_rmse").front());
  CHECK(json::parse(read_file(folder / "out/complete.json")) == j);
}

TEST_CASE("complete: ratings from the standard input, pairs below words of their own") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  write_raw(folder / "pairs.csv", "u,i\nu1,i1\n");
  Environment piped;
  piped.before = [&ratings] {
    if (std::freopen(ratings.c_str(), "r", stdin) == nullptr) std::abort();
  };
  const std::vector<std::string> rest = {"--rank", "2",         "--iterations",
                                         "20",     "--predict", folder / "pairs.csv"};
  const auto arguments = [&](const std::string& from, const std::string& to) {
    std::vector<std::string> all = {"--ratings", from, "--output", to};
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
  };
  const Outcome o = complete(arguments("-", folder / "a.csv"), piped);
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK_THAT(o.err, contains("stdin: 9600 ratings (comma, header"));
  CHECK_THAT(o.err, contains("1 pair (comma, header, columns u, i)"));
  CHECK_THAT(o.out, contains("1 prediction in "));
  REQUIRE(complete(arguments(ratings, folder / "b.csv")).code == 0);
  CHECK(read_file(folder / "a.csv") == read_file(folder / "b.csv"));
  check_refused({"--ratings", "-", "--test", "-"}, "only one of --ratings, --test and --predict");
  check_refused({"--ratings", "-", "--generate", "5x5x1x9"}, "expected a file to write");
}

TEST_CASE("complete: --output - is the standard output, and the table goes to the other") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  write_raw(folder / "pairs.csv", "u1,i1\n\"a, b\",i2\n");
  const std::vector<std::string> base = {"--ratings",          ratings,        "--predict",
                                         folder / "pairs.csv", "--iterations", "20",
                                         "--baselines",        "simple"};
  const auto with = [&base](std::vector<std::string> more) {
    more.insert(more.begin(), base.begin(), base.end());
    return complete(more);
  };
  REQUIRE(with({"--output", folder / "p.csv"}).code == 0);
  const Outcome o = with({"--output", "-"});
  CHECK(o.code == 0);
  CHECK(o.out == read_file(folder / "p.csv"));
  CHECK_THAT(o.err, contains("user + item bias") && contains("2 predictions in stdout"));
  CHECK_FALSE(fs::exists("-"));
  const Outcome quiet = with({"--output", "-", "--quiet"});
  CHECK(quiet.out == o.out);
  CHECK(quiet.err.empty());
  const Outcome both = with({"--output", "-", "--json"});
  CHECK(both.code == 2);
  CHECK_THAT(both.err, contains("--output: the standard output is taken by --json"));
}

TEST_CASE("complete: the same seed gives the same numbers, another seed others") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  const std::vector<std::string> base = {"--ratings", ratings,     "--iterations",
                                         "30",        "--threads", "1"};
  const auto with_seed = [&](const std::string& seed) {
    auto arguments = base;
    arguments.insert(arguments.end(), {"--seed", seed});
    return rmse(summary(arguments), "deep");
  };
  const double one = with_seed("1");
  CHECK(one == with_seed("1"));
  CHECK(one != with_seed("2"));
}

TEST_CASE("complete: a test file leaves the training part, strangers are counted") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  std::string lines = "user,item,rating\n";
  const auto table = read_csv(ratings);
  const auto values = table.numbers("rating");
  double total = 0;
  for (std::size_t i = 40; i < values.size(); ++i) total += values[i];
  for (std::size_t i = 0; i < 40; ++i) {
    lines += table.strings("user")[i] + "," + table.strings("item")[i] + "," +
             table.strings("rating")[i] + "\n";
  }
  write_raw(folder / "test.csv", lines + "stranger,i1,0.5\nu1,novelty,0.25\n");
  const json j = summary({"--ratings", ratings, "--test", folder / "test.csv", "--baselines",
                          "simple", "--iterations", "20"});
  CHECK(j["train"] == 9560);
  CHECK(j["test"]["count"] == 42);
  CHECK(j["test"]["taken_out_of_training"] == 40);
  CHECK(j["test"]["without_training_ratings"] == 2);
  // The mean's error, worked out here.
  const double mean = total / 9560;
  double squares = std::pow(0.5 - mean, 2) + std::pow(0.25 - mean, 2);
  for (std::size_t i = 0; i < 40; ++i) squares += std::pow(values[i] - mean, 2);
  CHECK(rmse(j, "global mean") == Approx(std::sqrt(squares / 42)));
}

TEST_CASE("complete: MovieLens where it is, against numbers computed elsewhere") {
  const char* data = std::getenv("PARSIMONY_DATA");
  if (data == nullptr || !fs::exists(std::string(data) + "/movielens-100k/u.data")) {
    WARN("PARSIMONY_DATA has no movielens-100k: not run");
    return;
  }
  const std::string root = data;
  const json u1 = summary({"--ratings", root + "/movielens-100k/u.data", "--test",
                           root + "/movielens-100k/u1.test", "--threads", "1"});
  CHECK(u1["ratings"]["count"] == 100000);
  CHECK(u1["ratings"]["users"] == 943);
  CHECK(u1["ratings"]["items"] == 1682);
  CHECK(u1["train"] == 80000);
  CHECK(rmse(u1, "global mean") == Approx(1.1536760).epsilon(1e-6));
  CHECK(rmse(u1, "deep") < 0.99 * rmse(u1, "user + item bias"));
  if (fs::exists(root + "/movielens-latest-small/ratings.csv")) {
    const json small = summary({"--ratings", root + "/movielens-latest-small/ratings.csv",
                                "--baselines", "simple", "--threads", "1", "--iterations", "50"});
    CHECK(small["ratings"]["count"] == 100836);
    CHECK(small["ratings"]["users"] == 610);
    CHECK(small["ratings"]["items"] == 9724);
    CHECK(small["clamp"] == json::array({0.5, 5.0}));
    CHECK(rmse(small, "deep") < rmse(small, "user + item bias"));
  }
}

TEST_CASE("complete: tables with nothing to factor") {
  TempFolder folder;
  write_raw(folder / "one.csv", "1,1,5\n");
  write_raw(folder / "equal.csv", "1,1,3\n1,2,3\n2,1,3\n2,2,3\n");
  write_raw(folder / "pairs.csv", "1,1\n1,7\n8,9\n");
  const Outcome one =
      complete({"--ratings", folder / "one.csv", "--predict", folder / "pairs.csv", "--output",
                folder / "p.csv", "--factors", folder / "f.safetensors"});
  CHECK(one.code == 0);
  CHECK_THAT(one.out, contains("too few to factor") && contains("no test ratings"));
  CHECK(read_csv(folder / "p.csv").numbers("prediction") == std::vector<double>{5, 5, 5});
  CHECK(load_safetensors(folder / "f.safetensors").get<double>("mean").item() == 5);
  CHECK(fs::exists(folder / "f.users.csv"));
  const Outcome equal = complete({"--ratings", folder / "equal.csv", "--rank", "1"});
  CHECK(equal.code == 0);
  CHECK_THAT(equal.out, contains("nothing is left to factor"));
}

TEST_CASE("complete: bad input is exit 2 and says where") {
  TempFolder folder;
  const auto file = [&](const std::string& text) {
    write_raw(folder / "r.csv", text);
    return folder / "r.csv";
  };
  const std::string good = file("1,1,3\n1,2,4\n2,1,5\n2,2,1\n3,1,2\n3,3,4\n");
  check_refused({"--ratings", folder / "none.csv"}, "it does not exist");
  check_refused({"--ratings", folder.path()}, "expected a file; got a folder");
  check_refused({"--ratings", good, "--rank", "2"}, "--rank: expected 1 to 1");
  check_refused({"--ratings", good, "--rank", "0"}, "--rank: expected 1 to 1");
  check_refused({"--ratings", good, "--holdout", "1.5"}, "--holdout");
  check_refused({"--ratings", good, "--range", "5"}, "--range: expected LOW:HIGH");
  check_refused({"--ratings", good, "--range", "a:5"}, "--range: expected a number; got 'a'");
  check_refused({"--ratings", good, "--duplicates", "all"}, "expected error, first, last, mean");
  check_refused({"--ratings", good, "--predict", good}, "--output FILE");
  check_refused({"--ratings", good, "--predict", folder / "none.csv", "--output", folder / "o.csv"},
                "none.csv");
  CHECK_FALSE(fs::exists(folder / "o.csv"));
  check_refused({"--ratings", good, "--gamma", "-1", "--rank", "1"}, "gamma");
  check_refused({"--ratings", good, "--columns", "1,2"}, "three columns");
  check_refused({"--generate", "10x10x20x5", "--ratings", folder / "g.csv"}, "rank from 1 to 10");
  check_refused({"--generate", "10x10", "--ratings", folder / "g.csv"}, "ROWSxCOLSxRANKxCOUNT");
  CHECK_FALSE(fs::exists(folder / "g.csv"));
  check_refused({"--ratings", good, "--test", good}, "none is left to train on");
  check_refused(
      {"--ratings", file("1,1,3\n1,2,x\n2,1\n1,1,4\n")},
      "3 lines cannot be used\n  line 2: rating 'x' is not a number\n  line 3: expected 3 "
      "columns; got 2\n  line 4: user '1' and item '1' were rated before, in line 1");
  check_refused({"--ratings", file("1,1,3\n1,2,x\n")},
                "\nmend them, or skip bad lines (--skip-bad)");
  check_refused({"--ratings", file("1,1,3\n1,1,4\n")}, "with --duplicates first|last|mean");
  check_refused(
      {"--ratings", file("id,user,item,points\n1,u,i,3\n")},
      "which column is the rating; it has id, user, item, points; name them with --columns");
  check_refused({"--ratings", file("1,1,3\n1,2,9\n"), "--range", "1:5"},
                "line 2: rating 9 is outside 1..5");
  check_refused({"--ratings", file("")}, "empty");

  const Outcome skipped = complete(
      {"--ratings", file("1,1,3\n1,2,x\n2,1\n1,1,4\n"), "--skip-bad", "--duplicates", "mean"});
  CHECK(skipped.code == 0);
  CHECK_THAT(skipped.err, contains("2 bad lines skipped") &&
                              contains("line 3: expected 3 columns") &&
                              contains("1 repeated rating resolved: mean"));
}

TEST_CASE("complete: what is said of the ratings is not forced on the pairs") {
  TempFolder folder;
  write_raw(folder / "r.csv", "user;item;rating\nu1;i1;3\nu1;i2;4\nu2;i1;5\n");
  write_raw(folder / "pairs.csv", "u1,i1\nu2,i2\n");
  const Outcome o = complete({"--ratings", folder / "r.csv", "--header", "yes", "--delimiter", ";",
                              "--predict", folder / "pairs.csv", "--output", folder / "p.csv"});
  INFO(o.err);
  CHECK(o.code == 0);
  CHECK(read_csv(folder / "p.csv").strings("user") == std::vector<std::string>{"u1", "u2"});
}

TEST_CASE("complete: a step that diverges is exit 3 with the iteration, and leaves no file") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  const Outcome o =
      complete({"--ratings", ratings, "--step", "500", "--factors", folder / "f.safetensors"});
  CHECK(o.code == 3);
  CHECK_THAT(o.err, contains("diverged") && contains("at iteration"));
  CHECK_FALSE(fs::exists(folder / "f.safetensors"));
}

TEST_CASE("complete: an eps that is too large is the user's, and said so") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  check_refused({"--ratings", ratings, "--eps", "1e3", "--quiet"},
                "eps 1000 is too large for a depth of 3");
  check_refused({"--ratings", ratings, "--depth", "60", "--eps", "1e6", "--quiet"},
                "eps 1e+06 is too large for a depth of 60");
}

TEST_CASE("complete: ratings of any size give the same table") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  const auto table = read_csv(ratings);
  const auto values = table.numbers("rating");
  const std::string path = folder / "scaled.csv";
  const auto write_scaled = [&](double factor) {
    std::string text = "user,item,rating\n";
    for (std::size_t i = 0; i < values.size(); ++i) {
      text += table.strings("user")[i] + "," + table.strings("item")[i] + "," +
              parsimony::format_number(factor * values[i]) + "\n";
    }
    write_raw(path, text);
  };
  const std::vector<std::string> rest = {"--iterations", "30", "--baselines", "simple", "--single"};
  const auto with = [&rest](const std::string& from) {
    std::vector<std::string> arguments = {"--ratings", from};
    arguments.insert(arguments.end(), rest.begin(), rest.end());
    return arguments;
  };
  const double usual = rmse(summary(with(ratings)), "deep");
  const auto line_of = [](const std::string& text, const std::string& method) {
    const std::size_t begin = text.find("\n" + method) + 1;
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  CHECK(line_of(complete(with(ratings)).out, "global mean").size() == 75);
  for (const int exponent : {-133, 30, 300}) {  // powers of two: the same bits
    const double factor = std::ldexp(1.0, exponent);
    INFO(factor);
    write_scaled(factor);
    CHECK(rmse(summary(with(path)), "deep") == Approx(factor * usual).margin(0));
    const std::string line = line_of(complete(with(path)).out, "deep");
    CHECK(line.size() == 79);
    CHECK_THAT(line, contains(factor < 1 ? "e-4" : "e+"));
  }
}

TEST_CASE("complete: the baselines too are the same in any unit of the ratings") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  const auto table = read_csv(ratings);
  std::string scaled = "user,item,rating\n";
  for (std::size_t i = 0; i < table.numbers("rating").size(); ++i) {
    scaled += table.strings("user")[i] + "," + table.strings("item")[i] + "," +
              parsimony::format_number(32 * table.numbers("rating")[i]) + "\n";
  }
  write_raw(folder / "scaled.csv", scaled);
  const json usual = summary({"--ratings", ratings, "--iterations", "5"});
  const json other = summary({"--ratings", folder / "scaled.csv", "--iterations", "5"});
  for (const char* method : {"user + item", "truncated", "ALS", "AltMin", "deep"}) {
    CAPTURE(method);
    CHECK(rmse(other, method) == Approx(32 * rmse(usual, method)).epsilon(1e-6));
  }
}

TEST_CASE("complete: predictions go to a pipe that has a name") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  write_raw(folder / "pairs.csv", "1,2\n3,4\n");
  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  std::string got;
  std::thread reader([&] { got = read_file(pipe); });
  const Outcome o = complete({"--ratings", ratings, "--iterations", "5", "--baselines", "simple",
                              "--predict", folder / "pairs.csv", "--output", pipe});
  if (o.code != 0) std::ofstream(pipe).flush();  // lets the reader go
  reader.join();
  CHECK(o.code == 0);
  CHECK(std::count(got.begin(), got.end(), '\n') == 3);
}

TEST_CASE("complete: an interrupted --generate leaves nothing") {
  for (const int signal : {SIGINT, SIGTERM}) {
    TempFolder folder;
    Process process("PARSIMONY_PROGRAM", {"complete", "--generate", "3000x3000x300x9000000",
                                          "--ratings", folder / "made.csv"});
    while (fs::is_empty(folder.path())) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    process.send(signal);
    const Outcome o = process.finish();
    CHECK(o.code == 130);
    CHECK_THAT(o.err, contains("stopped; nothing was written"));
    CHECK(fs::is_empty(folder.path()));
  }
}

TEST_CASE("complete: Ctrl-C ends the training with the best factors until then") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  for (const std::string validation : {"0.1", "0"}) {
    const std::string out = folder / ("out" + validation);
    Outcome o;
    for (int wait = 300; wait < 30000 && o.code != 130; wait *= 3) {  // until training has begun
      Process process("PARSIMONY_PROGRAM", {"complete", "--ratings", ratings, "--iterations",
                                            "100000000", "--patience", "100000000", "--validation",
                                            validation, "--baselines", "simple", "--out", out});
      std::this_thread::sleep_for(std::chrono::milliseconds(wait));
      process.send(SIGINT);
      o = process.finish();
    }
    CHECK(o.code == 130);
    CHECK_THAT(o.err, contains("interrupted at iteration"));
    CHECK_THAT(o.out, contains("deep completion, rank"));
    CHECK_THAT(read_file(out + "/complete.json"), contains("\"interrupted\": true"));
    CHECK(fs::exists(out + "/factors.safetensors"));
  }
}

TEST_CASE("complete: what is read is never written over") {
  TempFolder folder;
  fs::create_directories(folder / "d");
  const std::string text = "1,1,3\n1,2,4\n2,1,5\n";
  for (const char* name : {"items.csv", "metrics.csv", "predictions.csv"}) {
    const std::string ratings = folder / (std::string("d/") + name);
    const std::string safe = folder / "r.csv";
    write_raw(ratings, text);
    write_raw(safe, text);
    fs::remove(folder / "link.csv");
    fs::create_symlink(ratings, folder / "link.csv");
    const std::string message = std::string("/") + name + "' is what --";
    const auto refused = [&](std::vector<std::string> arguments, const std::string& option) {
      if (option == "--ratings") arguments.insert(arguments.end(), {"--predict", safe});
      check_refused(arguments, message + option.substr(2) + " reads");
      CHECK(read_file(ratings) == text);
    };
    refused({"--ratings", ratings, "--out", folder / "d"}, "--ratings");
    refused({"--ratings", folder / "link.csv", "--out", folder / "d/."}, "--ratings");
    refused({"--ratings", safe, "--out", folder / "d", "--predict", ratings}, "--predict");
    refused({"--ratings", safe, "--test", ratings, "--out", folder / "d", "--predict", safe},
            "--test");
    fs::remove(ratings);
  }
  write_raw(folder / "d/items.csv", text);
  check_refused({"--ratings", folder / "d/items.csv", "--factors", folder / "d"},
                "--factors: '" + folder.path() + "/d/items.csv' is what --ratings reads");
  write_raw(folder / "a.safetensors", text);
  check_refused({"--ratings", folder / "a.safetensors", "--factors", folder / "a.safetensors"},
                "a.safetensors' is what --ratings reads");
  write_raw(folder / "a.users.csv", text);
  check_refused({"--ratings", folder / "a.users.csv", "--factors", folder / "a.safetensors"},
                "a.users.csv' is what --ratings reads");
  Environment piped;
  const std::string input = folder / "d/items.csv";
  piped.before = [&input] {
    if (std::freopen(input.c_str(), "r", stdin) == nullptr) std::abort();
  };
  CHECK(complete({"--ratings", "-", "--factors", folder / "d"}, piped).code == 2);
  check_refused(
      {"--ratings", folder / "r.csv", "--predict", folder / "r.csv", "--output", folder / "r.csv"},
      "--output: '" + folder.path() + "/r.csv' is what --ratings reads");
  check_refused({"--ratings", folder / "r.csv", "--predict", folder / "r.csv", "--output",
                 folder / "new/users.csv", "--out", folder / "./new"},
                "new/users.csv' is a file of --out too");
  CHECK_FALSE(fs::exists(folder / "new"));
}

TEST_CASE("complete: an unwritable output is told before the training") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  // Folders in the way of files, which root cannot write either.
  for (const char* path : {"f/users.csv", "out/metrics.csv", "g.items.csv"}) {
    fs::create_directories(folder / path);
  }
  const auto told = [&](std::vector<std::string> arguments, const std::string& where) {
    arguments.insert(arguments.begin(), {"--ratings", ratings, "--predict", ratings});
    const Outcome o = complete(arguments);
    INFO(where);
    CHECK(o.code == 1);
    CHECK_THAT(o.err, contains(where) && !contains("9600 ratings"));
    CHECK(o.out.empty());
  };
  told({"--output", folder / "no/where.csv"}, "no/where.csv");
  const std::string fine = folder / "p.csv";
  told({"--output", fine, "--factors", folder / "f"}, "f/users.csv");
  told({"--output", fine, "--factors", folder / "g.safetensors"}, "g.items.csv");
  told({"--output", fine, "--out", folder / "out"}, "out/metrics.csv");
  write_raw(folder / "taken", "");
  check_refused({"--ratings", ratings, "--factors", folder / "taken"}, "a file is in the way");
}

TEST_CASE("complete: on a terminal the time to go is shown") {
  TempFolder folder;
  const std::string ratings = generated(folder);
  Environment terminal;
  terminal.terminal = true;
  terminal.set = {{"TERM", "xterm"}};
  const Outcome o =
      complete({"--ratings", ratings, "--iterations", "3000", "--patience", "3000", "--rank", "20"},
               terminal);
  CHECK(o.code == 0);
  CHECK_THAT(o.out, contains("ETA"));
}
