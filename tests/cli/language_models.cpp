#include "cli/language_models.hpp"

#include <algorithm>
#include <cmath>

namespace parsimony::testing {

const TempFolder& language_fixture() {
  static const TempFolder folder;
  static const bool made = [] {
    const std::vector<std::string> who = {"the old man", "a girl", "the dog", "my friend"};
    const std::vector<std::string> what = {"runs fast", "is reading a book", "sleeps at home"};
    std::string corpus;
    std::string train;
    std::string dev;
    std::string texts;
    for (std::size_t i = 0; i < 36; ++i) {
      const std::string first = who[i % 4] + " " + what[i % 3];
      const std::string second = who[(i / 2) % 4] + " " + what[(i / 3) % 3];
      corpus += first + " and " + second + " .\n";
      const std::string label = i % 4 == (i / 2) % 4 ? "same" : "other";
      (i < 24 ? train : dev) += first + "\t" + second + "\t" + label + "\n";
      if (i < 6) texts += first + "\t" + second + "\n";
    }
    write_raw(folder / "corpus.txt", corpus);
    write_raw(folder / "train.tsv", train);
    write_raw(folder / "dev.tsv", dev);
    write_raw(folder / "in.tsv", texts);
    done({"pretrain", "--corpus", folder / "corpus.txt", "--size", "tiny", "--vocab-size", "120",
          "--length", "16", "--steps", "1", "--batch", "2", "--quiet", "--out", folder / "model"});
    return true;
  }();
  static_cast<void>(made);
  return folder;
}

std::vector<std::string> quick_finetune(const std::string& out,
                                        const std::vector<std::string>& more) {
  const TempFolder& f = language_fixture();
  std::vector<std::string> arguments = {"finetune",      "--model", f / "model",   "--train",
                                        f / "train.tsv", "--dev",   f / "dev.tsv", "--quiet",
                                        "--threads",     "1",       "--batch",     "4",
                                        "--out",         out};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

Outcome done(const std::vector<std::string>& arguments) {
  Outcome o = program(arguments);
  INFO(arguments.front() << ": " << o.err);
  REQUIRE(o.code == 0);
  return o;
}

void refused(const std::vector<std::string>& arguments, const std::string& message) {
  const Outcome o = program(arguments);
  INFO("expected: " << message);
  CHECK(o.code == 2);
  CHECK_THAT(o.err, contains(message));
}

std::vector<std::vector<double>> predicted(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(),
                   {"predict", "--input", language_fixture() / "in.tsv", "--threads", "1"});
  std::istringstream lines(done(arguments).out);
  std::vector<std::vector<double>> rows;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    rows.emplace_back();
    for (double value = 0; fields >> value;) rows.back().push_back(value);
  }
  return rows;
}

double largest_difference(const std::vector<std::vector<double>>& a,
                          const std::vector<std::vector<double>>& b) {
  REQUIRE(a.size() == b.size());
  REQUIRE_FALSE(a.empty());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    REQUIRE(a[i].size() == b[i].size());
    for (std::size_t j = 0; j < a[i].size(); ++j) {
      largest = std::max(largest, std::abs(a[i][j] - b[i][j]));
    }
  }
  return largest;
}

}  // namespace parsimony::testing
