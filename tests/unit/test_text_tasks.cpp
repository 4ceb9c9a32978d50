// Text tasks: the generated one, a user's own, and the published sets against their row counts.
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/metrics.hpp>
#include <parsimony/text_tasks.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using parsimony::testing::contains;
using parsimony::testing::TempFolder;
using parsimony::testing::write_raw;

namespace {

std::string pair_of(const TextExample& e) { return e.first + "\t" + e.second; }

std::size_t count_label(const std::vector<TextExample>& examples, double label) {
  return static_cast<std::size_t>(std::count_if(
      examples.begin(), examples.end(), [label](const auto& e) { return e.label == label; }));
}

/// make_user_task on one text as train.
class UserTable {
 public:
  explicit UserTable(const std::string& bytes, const std::string& name = "mine.tsv")
      : path_(folder_ / name) {
    write_raw(path_, bytes);
  }
  const std::string& path() const { return path_; }
  TextSplits task(const UserTaskOptions& options = {}) const {
    return make_user_task(path_, "", options);
  }
  std::string error(const UserTaskOptions& options = {}) const {
    try {
      task(options);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no error";
  }

 private:
  TempFolder folder_;
  std::string path_;
};

/// The splits of a published set, or nothing, visibly, where the data is not there.
bool load(const std::string& name, TextSplits& splits) {
  for (const std::string& file : text_task_files(name)) {
    if (find_data_file("", file).empty()) {
      WARN("PARSIMONY_DATA has no " << file << ": not run");
      return false;
    }
  }
  splits = load_text_task(name);
  for (const auto* part : {&splits.train, &splits.dev, &splits.test}) {
    for (const TextExample& e : *part) {
      if (e.first.empty() || e.second.empty() == splits.task.pair) FAIL(name << ": an empty text");
    }
  }
  return true;
}

}  // namespace

TEST_CASE("synthetic pairs: the score is the number of slots that agree", "[tasks]") {
  SyntheticOptions options;
  options.train = 3000;
  options.dev = 600;
  const TextSplits splits = synthetic_pairs(options);
  CHECK(splits.train.size() == 3000);
  CHECK(splits.dev.size() == 600);
  CHECK(splits.task.pair);
  CHECK(splits.task.regression());
  CHECK(splits.task.outputs() == 1);
  std::set<std::string> seen;
  std::set<std::string> words;
  for (const auto* part : {&splits.train, &splits.dev}) {
    for (const TextExample& e : *part) {
      CHECK(seen.insert(pair_of(e)).second);
      for (const std::string& text : {e.first, e.second}) {
        std::istringstream in(text);
        for (std::string word; in >> word;) words.insert(word);
      }
    }
  }
  CHECK(words.size() == 5 * 8 * 2 + 3);  // and "the", "is", "in"
  for (int score = 0; score <= 5; ++score) {
    CHECK(count_label(splits.train, score) > 400);
    CHECK(count_label(splits.train, score) < 600);
  }
  // Words in common never exceed the score (other slots differ), and carry much of it.
  std::vector<double> common;
  std::vector<double> scores;
  for (const TextExample& e : splits.dev) {
    std::istringstream a(e.first);
    std::istringstream b(e.second);
    double same = 0;
    for (std::string x, y; a >> x && b >> y;) same += x == y ? 1 : 0;
    same -= 5;  // the, is, the, in, the
    CHECK(same <= e.label);
    common.push_back(same);
    scores.push_back(e.label);
  }
  const double r = pearson(common, scores);
  CHECK(r > 0.6);
  CHECK(r < 0.9);  // synonyms hide the rest
}

TEST_CASE("synthetic pairs: more of them append, another seed gives others", "[tasks]") {
  SyntheticOptions small;
  small.train = 50;
  small.dev = 20;
  SyntheticOptions large;
  large.train = 400;
  large.dev = 10;
  const TextSplits a = synthetic_pairs(small);
  const TextSplits b = synthetic_pairs(large);
  for (std::size_t i = 0; i < 50; ++i) CHECK(pair_of(a.train[i]) == pair_of(b.train[i]));
  for (std::size_t i = 0; i < 10; ++i) CHECK(pair_of(a.dev[i]) == pair_of(b.dev[i]));
  small.seed = 1;
  CHECK(pair_of(synthetic_pairs(small).train[0]) != pair_of(a.train[0]));
  TextTaskOptions options;
  options.synthetic = large;
  CHECK(pair_of(load_text_task("synthetic", options).train[399]) == pair_of(b.train[399]));
  small.train = 0;
  CHECK_THROWS_AS(synthetic_pairs(small), ValueError);
}

TEST_CASE("tasks: unknown names and missing data", "[tasks]") {
  CHECK_THROWS_WITH(load_text_task("stbs"), contains("did you mean 'stsb'?"));
  CHECK_THROWS_AS(text_task_files("glue"), ValueError);
  const TempFolder empty;
  for (const std::string& name : text_task_names()) {
    if (name == "synthetic" || !find_data_file("", text_task_files(name)[0]).empty()) continue;
    TextTaskOptions options;
    options.data_dir = empty.path();
    CHECK_THROWS_AS(load_text_task(name, options), MissingData);
  }
  // Data that is there for others does not hide what this folder says is missing.
  CHECK_THROWS_WITH(data_file(empty.path(), "stsb/none.csv", "get it"),
                    contains("'stsb/none.csv' not found in " + empty.path()));
}

TEST_CASE("tasks: files that are not as described name their line", "[tasks]") {
  const TempFolder folder;
  TextTaskOptions options;
  options.data_dir = folder.path();
  make_folders(folder / "stsb");
  make_folders(folder / "rte");
  make_folders(folder / "sst2");
  const std::string row = "g\tf\ty\t1\t2.5\t\"a\tb\"\n";
  write_raw(folder / "stsb/sts-dev.csv", row);
  const auto error = [&](const std::string& name) {
    try {
      load_text_task(name, options);
    } catch (const InputError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  write_raw(folder / "stsb/sts-train.csv", row + "g\tf\ty\t1\t4\tc\td\ts\tt\n");
  const TextSplits stsb = load_text_task("stsb", options);
  CHECK(stsb.train[0].first == "\"a");
  CHECK(stsb.train[1].second == "d");
  CHECK(stsb.train[1].label == 4);
  write_raw(folder / "stsb/sts-train.csv", row + "g\tf\ty\t1\t5.5\tc\td\n");
  CHECK_THAT(error("stsb"), contains("sts-train.csv, line 2: expected a label from 0 to 5; found "
                                     "5.5"));
  write_raw(folder / "stsb/sts-train.csv", row + "g\tf\ty\t1\t5\tc\n");
  CHECK_THAT(error("stsb"), contains("line 2: expected at least 7 columns as in line 1; found 6"));
  write_raw(folder / "rte/dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n");
  write_raw(folder / "rte/train.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailmnet\n");
  CHECK_THAT(error("rte"), contains("train.tsv, line 2: unknown label 'entailmnet', did you mean "
                                    "'entailment'?"));
  write_raw(folder / "sst2/train.tsv", "sentence\tlabel\na b \t1\nc \t2\n");
  write_raw(folder / "sst2/dev.tsv", "sentence\tlabel\na b \t1\n");
  CHECK_THAT(error("sst2"), contains("train.tsv, line 3: unknown label '2'"));
  write_raw(folder / "sst2/train.tsv", "sentence\tlabel\na b \t1\n");
  CHECK(load_text_task("sst2", options).train[0].first == "a b");
}

TEST_CASE("tasks: only the files of the split that is asked for are read", "[tasks]") {
  const TempFolder folder;  // with a broken file each, which another folder may have whole
  make_folders(folder / "sst2");
  make_folders(folder / "mrpc");
  write_raw(folder / "sst2/dev.tsv", "sentence\tlabel\na b \t1\n");
  write_raw(folder / "sst2/train.tsv", "sentence\tlabel\na b \t2\n");
  const std::string header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n";
  write_raw(folder / "mrpc/msr_paraphrase_train.txt", header + "1\t1\t2\ta\tb\n");
  write_raw(folder / "mrpc/msr_paraphrase_test.txt", header + "2\t1\t2\ta\tb\n");
  const auto load = [&](const std::string& name, const std::string& split) {
    TextTaskOptions options;
    options.data_dir = folder.path();
    options.split = split;
    return load_text_task(name, options);
  };
  const TextSplits dev = load("sst2", "dev");
  CHECK(dev.dev[0].first == "a b");
  CHECK(dev.train.empty());
  CHECK_THROWS_WITH(load("sst2", "train"), contains("train.tsv, line 2: unknown label '2'"));
  CHECK_THROWS_WITH(load("sst2", ""), contains("train.tsv, line 2: unknown label '2'"));
  CHECK(load("mrpc", "dev").dev.size() == 1);
  CHECK(load("mrpc", "train").test.empty());
  CHECK_THROWS_WITH(load("mrpc", "test"), contains("msr_paraphrase_test.txt, line 2: unknown"));
}

TEST_CASE("user task: classes and regression are told apart", "[tasks]") {
  const TextSplits words = UserTable("good film\tpos\nbad film\tneg\nso so\tneg\n").task();
  CHECK(words.task.name == "mine");
  CHECK_FALSE(words.task.pair);
  CHECK(words.task.labels == std::vector<std::string>{"neg", "pos"});
  CHECK(words.task.metric == "accuracy");
  CHECK(words.task.other_metrics == std::vector<std::string>{"matthews", "f1"});
  CHECK(words.train[0].label == 1);
  CHECK(words.train[2].first == "so so");

  const TextSplits scores = UserTable("a\tb\t1\nc\td\t2.5\n").task();
  CHECK(scores.task.pair);
  CHECK(scores.task.regression());
  CHECK(scores.task.metric == "pearson");
  CHECK(scores.train[1].label == 2.5);

  // Whole numbers: few of them are classes, many a scale.
  std::string few;
  std::string many;
  for (int i = 0; i < 30; ++i) {
    few += "t\t" + std::to_string(i % 11) + "\n";
    many += "t\t" + std::to_string(i) + "\n";
  }
  CHECK(UserTable(few).task().task.labels.size() == 11);
  CHECK(UserTable(few).task().task.labels[10] == "10");  // by value, not "1", "10", "2"
  CHECK(UserTable(many).task().task.regression());
  UserTaskOptions options;
  options.goal = UserTaskOptions::Goal::regression;
  CHECK(UserTable(few).task(options).task.regression());
  options.goal = UserTaskOptions::Goal::classes;
  CHECK(UserTable(many).task(options).task.outputs() == 30);
}

TEST_CASE("user task: columns, dev files and chosen classes", "[tasks]") {
  const UserTable csv(
      "pair_ID,sentence_A,sentence_B,relatedness_score,entailment_judgment\n"
      "1,\"a, b\",c,4.5,NEUTRAL\n2,d,e,1,ENTAILMENT\n",
      "sick.csv");
  UserTaskOptions options;
  CHECK_THAT(csv.error(), contains("it is not clear which columns"));
  options.columns = {"sentence_A", "sentence_B", "entailment_judgment"};
  options.labels = {"ENTAILMENT", "NEUTRAL", "CONTRADICTION"};
  const TextSplits splits = make_user_task(csv.path(), csv.path(), options);
  CHECK(splits.task.outputs() == 3);
  CHECK(splits.train[0].first == "a, b");
  CHECK(splits.train[0].label == 1);
  CHECK(splits.dev.size() == 2);
  CHECK(splits.task.other_metrics == std::vector<std::string>{"matthews"});
  options.labels = {};
  options.columns = {"2", "5"};
  CHECK(csv.task(options).train[1].first == "d");

  // Texts of a pair by what their names say, in whatever order.
  for (const char* rows : {"{\"sentence2\":\"b\",\"score\":1.5,\"sentence1\":\"a\"}\n"
                           "{\"sentence1\":\"c\",\"sentence2\":\"d\",\"score\":2}\n",
                           "{\"Hypothesis\":\"b\",\"premise\":\"a\",\"label\":0.5}\n"
                           "{\"premise\":\"c\",\"Hypothesis\":\"d\",\"label\":2}\n"}) {
    const TextSplits named = UserTable(rows, "mine.jsonl").task();
    CHECK(named.task.pair);
    CHECK(named.train[0].first == "a");
    CHECK(named.train[1].second == "d");
  }
  CHECK(UserTable("text_b,text_a,label\nx,y,0.5\n", "mine.csv").task().train[0].first == "y");
  CHECK(UserTable("sentence,question,label\nx,y,0.5\n", "mine.csv").task().train[0].first == "y");
  // Other names have no order but the file's.
  CHECK(UserTable("review,title,label\nx,y,0.5\n", "mine.csv").task().train[0].first == "x");

  // By usual names, other columns left alone; dev has them in another place and kind.
  const UserTable train("id\tlabel\tsentence\n7\tyes\tx\n8\tno\ty\n");
  const UserTable dev("{\"sentence\":\"z\",\"label\":\"no\"}\n", "dev.jsonl");
  CHECK(make_user_task(train.path(), dev.path()).dev[0].label == 0);
  const UserTable odd("{\"sentence\":\"z\",\"label\":\"nope\"}\n", "dev.jsonl");
  CHECK_THROWS_WITH(make_user_task(train.path(), odd.path()),
                    contains("dev.jsonl, line 1: unknown label 'nope'"));
  const UserTable pairs("a\tb\tyes\n");
  CHECK_THROWS_WITH(read_examples(make_user_task(train.path(), "").task, pairs.path()),
                    contains("takes one text and a label"));
}

TEST_CASE("user task: labels that are wrong name their line", "[tasks]") {
  std::string many;
  for (int i = 0; i < 40; ++i) many += "t\t" + std::to_string(i) + ".5\n";
  CHECK_THAT(UserTable(many + "t\tn/a\n").error(),
             contains("mine.tsv, line 41: expected a number as label; found 'n/a'"));
  CHECK_THAT(UserTable(many + "t\t3,5\n").error(), contains("decimals need a point"));
  CHECK_THAT(UserTable(many + "t\tinf\n").error(), contains("line 41: expected a finite number"));
  CHECK_THAT(UserTable(many + "t\tnan\n").error(), contains("line 41: expected a finite number"));
  CHECK_THAT(UserTable(many + "t\t1e400\n").error(), contains("line 41: expected a finite number"));
  CHECK_THAT(UserTable(many + "t\t\n").error(), contains("line 41: the label is empty"));
  UserTaskOptions options;
  options.low = 0;
  options.high = 5;
  CHECK_THAT(UserTable("t\t1.5\nt\t-1\n").error(options),
             contains("line 2: expected a label from 0 to 5; found -1"));
  options = {};
  options.labels = {"negative", "positive"};
  CHECK_THAT(UserTable("t\tpositive\nt\tpositiv\n").error(options),
             contains("line 2: unknown label 'positiv', did you mean 'positive'?"));
  CHECK_THAT(UserTable("t\tx\nu\tx\n").error(), contains("every label is 'x'"));
  CHECK_THAT(UserTable("t\tx\nu\t\n").error(), contains("line 2: the label is empty"));
  std::string ids;
  for (int i = 0; i < 1100; ++i) ids += "t\tn" + std::to_string(i) + "\n";
  CHECK_THAT(UserTable(ids).error(), contains("more than 1000 different labels"));
  CHECK_THAT(UserTable("only text\n").error(), contains("there are: 1"));
}

TEST_CASE("user task: options that contradict themselves", "[tasks]") {
  const UserTable table("t\tx\nu\ty\n");
  UserTaskOptions options;
  options.metric = "pearson";
  CHECK_THROWS_WITH(table.task(options), contains("does not fit 2 classes"));
  options = {};
  options.columns = {"1"};
  CHECK_THROWS_AS(table.task(options), ValueError);
  options = {};
  options.labels = {"x", "x"};
  CHECK_THROWS_AS(table.task(options), ValueError);
  options.labels = {"x", "y"};
  options.goal = UserTaskOptions::Goal::regression;
  CHECK_THROWS_AS(table.task(options), ValueError);
  options = {};
  options.low = 1;
  options.high = 1;
  CHECK_THROWS_AS(table.task(options), ValueError);
}

TEST_CASE("tasks: logits become predictions", "[tasks]") {
  TextTask task;
  CHECK(predictions(task, Tensor<float>({2, 1}, {0.5F, 2})) == std::vector<double>{0.5, 2});
  CHECK_THROWS_AS(predictions(task, Tensor<float>({1, 1}, {NAN})), NumericalError);
  task.labels = {"a", "b"};
  CHECK(predictions(task, Tensor<double>({2, 2}, {0, 1, 1, 0})) == std::vector<double>{1, 0});
  CHECK_THROWS_AS(predictions(task, Tensor<double>({2, 1})), ShapeError);
}

TEST_CASE("tasks: the documentation's tables and messages", "[tasks]") {
  const std::string page = read_file(PARSIMONY_SOURCE_ROOT "/docs/text_data.md");
  const TempFolder folder;
  // What stands below the line "```KIND NAME".
  const auto block = [&](const std::string& name) {
    const std::size_t head = page.find(" " + name + "\n");
    REQUIRE(head != std::string::npos);
    const std::size_t begin = page.find('\n', head) + 1;
    return page.substr(begin, page.find("```", begin) - begin);
  };
  const auto write = [&](const std::string& name, const std::string& bytes) {
    write_raw(folder / name, bytes);
    return folder / name;
  };
  const TextSplits reviews = make_user_task(write("reviews.tsv", block("reviews.tsv")), "");
  CHECK(reviews.task.labels == std::vector<std::string>{"negative", "positive"});
  CHECK(reviews.train.at(1).first == "\"quirky\" is not enough");
  const TextSplits pairs = make_user_task(write("pairs.csv", block("pairs.csv")), "");
  CHECK(pairs.task.regression());
  CHECK(pairs.train.at(0).first == "A man, tall, is running.");
  CHECK(pairs.train.at(1).first == "He said \"no\".");
  const TextSplits questions =
      make_user_task(write("questions.jsonl", block("questions.jsonl")), "");
  CHECK(questions.task.labels == std::vector<std::string>{"no", "yes"});
  CHECK(questions.train.at(1).second == "It is long.");
  UserTaskOptions numbered;
  numbered.columns = {"3", "4", "5"};
  const TextSplits scores = make_user_task(write("scores.tsv", block("scores.tsv")), "", numbered);
  CHECK(scores.train.at(1).label == 0.5);

  const auto documented = [&](const std::string& path, const UserTaskOptions& options) {
    try {
      make_user_task(path, "", options);
      FAIL("no error");
    } catch (const InputError& e) {
      std::string message = e.what();
      const std::size_t at = message.find(folder / "");
      if (at != std::string::npos) message.erase(at, (folder / "").size());
      INFO(message);
      CHECK(page.find("\n" + message + "\n") != std::string::npos);
    }
  };
  UserTaskOptions options;
  options.labels = {"positive", "negative"};
  documented(write("reviews.tsv", "text\tlabel\nx\tnegative\ny\tnegativ\n"), options);
  documented(write("reviews.tsv", "text\tlabel\n\n\n\n\nx\tnegative\ny\tz\tnegative\n"), {});
  documented(write("scores.tsv", "a\t1.5\nb\tnan\n"), {});
  documented(write("scores.tsv", "a\t1.5\n\n\n\n\n\n\n\nat this caf\xe9\t1\n"), {});
  options = {};
  options.columns = {"sentense1", "score"};
  documented(write("pairs.csv", block("pairs.csv")), options);
  documented(write("pairs.csv", "text,label\na,b\n\"c,d\ne,f\n"), {});
}

// --- Published sets: the counts that their publishers give. -------------------------------------

TEST_CASE("stsb: rows and quotes as published", "[tasks][data]") {
  TextSplits s;
  if (!load("stsb", s)) return;
  CHECK(s.train.size() == 5749);
  CHECK(s.dev.size() == 1500);
  CHECK(s.test.empty());
  const auto quoted = [](const std::vector<TextExample>& all) {
    std::size_t n = 0;
    for (const auto& e : all) n += e.first.front() == '"' ? 1 : 0;
    return n;
  };
  CHECK(quoted(s.train) == 84);
  CHECK(quoted(s.dev) == 29);
  CHECK(s.train[0].first == "A plane is taking off.");
  CHECK(s.train[0].second == "An air plane is taking off.");
  CHECK(s.train[0].label == 5);
}

TEST_CASE("sst2, cola, rte: rows as published", "[tasks][data]") {
  TextSplits s;
  if (load("sst2", s)) {
    CHECK(s.train.size() == 67349);
    CHECK(count_label(s.train, 1) == 37569);
    CHECK(s.dev.size() == 872);
    CHECK(count_label(s.dev, 1) == 444);
    CHECK(s.train[0].first == "hide new secretions from the parental units");
  }
  if (load("cola", s)) {
    CHECK(s.train.size() == 8551);
    CHECK(count_label(s.train, 1) == 6023);
    CHECK(s.dev.size() == 516);
    CHECK(count_label(s.dev, 1) == 354);
    CHECK(s.task.metric == "matthews");
  }
  if (load("rte", s)) {
    CHECK(s.train.size() == 2490);
    CHECK(count_label(s.train, 0) == 1249);
    CHECK(s.dev.size() == 277);
    CHECK(count_label(s.dev, 0) == 146);
  }
}

TEST_CASE("mrpc: the last 408 rows are held out", "[tasks][data]") {
  TextSplits s;
  if (!load("mrpc", s)) return;
  CHECK(s.train.size() == 3668);
  CHECK(s.dev.size() == 408);
  CHECK(count_label(s.dev, 1) == 284);
  CHECK(count_label(s.train, 1) + 284 == 2753);
  CHECK(s.test.size() == 1725);
  CHECK(count_label(s.test, 1) == 1147);
}

TEST_CASE("qnli: divided by question", "[tasks][data]") {
  TextSplits s;
  if (!load("qnli", s)) return;
  CHECK(s.train.size() + s.dev.size() == 5463);
  CHECK(count_label(s.train, 0) + count_label(s.dev, 0) == 2702);
  std::set<std::string> train;
  std::set<std::string> dev;
  for (const auto& e : s.train) train.insert(e.first);
  for (const auto& e : s.dev) dev.insert(e.first);
  CHECK(train.size() + dev.size() == 4100);
  for (const std::string& question : dev) CHECK(train.count(question) == 0);
  CHECK(s.dev.size() == 1089);  // a hash decides: the same for everyone
}

TEST_CASE("sick: its three parts and both tasks", "[tasks][data]") {
  TextSplits s;
  if (!load("sick", s)) return;
  CHECK(s.train.size() == 4500);
  CHECK(s.dev.size() == 500);
  CHECK(s.test.size() == 4927);
  std::map<double, std::size_t> labels;
  for (const auto* part : {&s.train, &s.dev, &s.test}) {
    for (const auto& e : *part) ++labels[e.label];
  }
  CHECK(labels == std::map<double, std::size_t>{{0, 2857}, {1, 5611}, {2, 1459}});
  TextSplits r;
  REQUIRE(load("sick-r", r));
  CHECK(r.test.size() == 4927);
  CHECK(pair_of(r.train[0]) == pair_of(s.train[0]));
  CHECK(r.train[0].label == 4.5);
}
