// parsimony complete: a user's own ratings completed by the compressed deep factorisation, beside
// the methods it should be compared with.
#include "cli/complete.hpp"

#include <parsimony/config.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/input_files.hpp>
#include <parsimony/run.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "cli/command.hpp"

namespace parsimony::cli {

namespace {

std::vector<std::string> split_text(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

template <class Number>
Number number_of(const std::string& option, const std::string& text) {
  Number value{};
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    throw ValueError(fmt::format("{}: expected a number; got '{}'", option, printable(text)));
  }
  return value;
}

std::string delimiter_of(const std::string& text) {
  static const std::map<std::string, std::string> names = {
      {"tab", "\t"}, {"\\t", "\t"},  {"comma", ","},  {"semicolon", ";"}, {"bar", "|"},
      {"pipe", "|"}, {"blank", " "}, {"blanks", " "}, {"space", " "}};
  const auto found = names.find(text);
  return found == names.end() ? text : found->second;
}

template <class Choice>
Choice choice_of(const std::string& option, const std::string& text,
                 const std::vector<std::pair<std::string, Choice>>& choices) {
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) {
    if (name == text) return value;
    names.push_back(name);
  }
  throw ValueError(fmt::format("{}: expected {}; got '{}'", option, fmt::join(names, ", "), text));
}

RatingsFormat format_of(const CompleteSettings& s) {
  RatingsFormat f;
  f.delimiter = delimiter_of(s.delimiter);
  f.header = choice_of<RatingsFormat::Header>("--header", s.header,
                                              {{"detect", RatingsFormat::Header::detect},
                                               {"yes", RatingsFormat::Header::yes},
                                               {"no", RatingsFormat::Header::no}});
  if (!s.columns.empty()) f.columns = split_text(s.columns, ',');
  if (!s.range.empty()) {
    const auto ends = split_text(s.range, ':');
    if (ends.size() != 2) throw ValueError("--range: expected LOW:HIGH; got '" + s.range + "'");
    f.low = number_of<double>("--range", ends[0]);
    f.high = number_of<double>("--range", ends[1]);
  }
  f.duplicates = choice_of<Duplicates>("--duplicates", s.duplicates,
                                       {{"error", Duplicates::error},
                                        {"first", Duplicates::first},
                                        {"last", Duplicates::last},
                                        {"mean", Duplicates::mean}});
  f.skip_bad = s.skip_bad;
  return f;
}

/// "1 rating", "2 ratings".
std::string counted(index_t count, const std::string& what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

void check_settings(const CompleteSettings& s) {
  format_of(s);
  if (s.ratings.empty()) throw ValueError("complete: name the ratings with --ratings FILE");
  const auto from_input = [](const std::string& path) { return static_cast<int>(path == "-"); };
  if (from_input(s.ratings) + from_input(s.test) + from_input(s.predict) > 1) {
    throw ValueError("complete: only one of --ratings, --test and --predict can be '-'");
  }
  if (s.ratings == "-" && !s.generate.empty()) {
    throw ValueError("--generate: expected a file to write; --ratings is '-'");
  }
  if (!(s.holdout >= 0 && s.holdout <= 0.9)) {
    throw ValueError(fmt::format("--holdout: expected a fraction in [0, 0.9]; got {}", s.holdout));
  }
  if (!(s.validation >= 0 && s.validation <= 0.5)) {
    throw ValueError(
        fmt::format("--validation: expected a fraction in [0, 0.5]; got {}", s.validation));
  }
  if (!s.output.empty() && s.predict.empty()) {
    throw ValueError("--output: needs the pairs to predict, --predict FILE");
  }
  if (s.output == "-" && s.json) {
    throw ValueError("--output: the standard output is taken by --json; name a file");
  }
  if (!s.predict.empty() && s.output.empty() && s.out.empty()) {
    throw ValueError(
        "--predict: name the file of predictions with --output FILE, or a folder with --out");
  }
}

int generate(const CompleteSettings& s) {
  const auto sizes = split_text(s.generate, 'x');
  if (sizes.size() != 4) {
    throw ValueError("--generate: expected ROWSxCOLSxRANKxCOUNT, as 1000x500x5x20000; got '" +
                     s.generate + "'");
  }
  if (std::filesystem::exists(s.ratings)) {
    throw ValueError("--generate: " + s.ratings + " exists; name a file that does not");
  }
  index_t n[4];
  for (std::size_t i = 0; i < 4; ++i) n[i] = number_of<index_t>("--generate", sizes[i]);
  install_interrupt_handler();
  write_generated_ratings(s.ratings, n[0], n[1], n[2], n[3], s.noise, Rng(s.seed).split("generate"),
                          [] {
                            if (interrupt_requested())
                              throw Interrupted("complete: stopped; nothing was written");
                          });
  if (!s.quiet) {
    fmt::print(stderr, "wrote {} of {} users and {} items, rank {}, noise {}, to {}\n",
               counted(n[3], "rating"), n[0], n[1], n[2], s.noise, s.ratings);
  }
  return 0;
}

void tell_reading(const CompleteSettings& s, const std::string& path, const Ratings& r) {
  if (s.quiet) return;
  fmt::print(stderr, "{}: {} ({})\n", input_name(path), counted(r.size(), "rating"), r.dialect);
  if (r.merged > 0) {
    fmt::print(stderr, "  {} resolved: {}\n", counted(r.merged, "repeated rating"), s.duplicates);
  }
  if (r.skipped > 0) {
    fmt::print(stderr, "  {} skipped:\n", counted(r.skipped, "bad line"));
    for (const auto& example : r.skipped_examples) fmt::print(stderr, "    {}\n", example);
    const auto more = r.skipped - static_cast<index_t>(r.skipped_examples.size());
    if (more > 0) fmt::print(stderr, "    and {} more\n", more);
  }
}

/// A test file, by the training table's numbers; its pairs leave the training part.
void take_test_file(const CompleteSettings& s, const RatingsFormat& format, CompletionData& data) {
  const Ratings test = read_ratings(s.test, format);
  tell_reading(s, s.test, test);
  std::vector<std::uint64_t> tested;
  for (index_t i = 0; i < test.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    const auto user = data.ratings.users.find(test.users.name(test.user[at]));
    const auto item = data.ratings.items.find(test.items.name(test.item[at]));
    data.test.user.push_back(static_cast<std::int32_t>(user));
    data.test.item.push_back(static_cast<std::int32_t>(item));
    data.test.value.push_back(test.value[at]);
    if (user >= 0 && item >= 0) {
      tested.push_back(static_cast<std::uint64_t>(user) << 32 | static_cast<std::uint64_t>(item));
    }
  }
  std::sort(tested.begin(), tested.end());
  for (index_t i = 0; i < data.ratings.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    const auto key = static_cast<std::uint64_t>(data.ratings.user[at]) << 32 |
                     static_cast<std::uint64_t>(data.ratings.item[at]);
    if (std::binary_search(tested.begin(), tested.end(), key)) {
      ++data.test_in_train;
    } else {
      data.train.push_back(i);
    }
  }
  data.test_source = s.test;
  if (data.train.empty())
    throw InputError(s.test + ": every rating is in the test file, none is left to train on");
}

void count_cold(CompletionData& data) {
  std::vector<bool> user(static_cast<std::size_t>(data.ratings.users.size()), false);
  std::vector<bool> item(static_cast<std::size_t>(data.ratings.items.size()), false);
  for (const index_t i : data.train) {
    user[static_cast<std::size_t>(data.ratings.user[static_cast<std::size_t>(i)])] = true;
    item[static_cast<std::size_t>(data.ratings.item[static_cast<std::size_t>(i)])] = true;
  }
  for (std::size_t i = 0; i < data.test.user.size(); ++i) {
    const auto u = data.test.user[i];
    const auto v = data.test.item[i];
    if (u < 0 || v < 0 || !user[static_cast<std::size_t>(u)] ||
        !item[static_cast<std::size_t>(v)]) {
      ++data.test_cold;
    }
  }
}

CompletionData load(const CompleteSettings& s) {
  const RatingsFormat format = format_of(s);
  CompletionData data;
  data.ratings = read_ratings(s.ratings, format);
  tell_reading(s, s.ratings, data.ratings);
  if (!s.test.empty()) {
    take_test_file(s, format, data);
  } else {
    Split split = random_split(data.ratings.size(), s.holdout, Rng(s.seed).split("holdout"));
    if (split.first.empty()) std::swap(split.first, split.second);
    data.train = std::move(split.first);
    data.test = pairs_at(data.ratings, split.second);
    data.test_source = fmt::format("{:.4g} % held out (seed {})", 100 * s.holdout, s.seed);
  }
  count_cold(data);
  if (!s.predict.empty()) {
    RatingsFormat pairs = format;
    pairs.header = RatingsFormat::Header::detect;  // --header says it of ratings
    data.pairs = read_pairs(s.predict, pairs, &data.ratings);
    if (!s.quiet) {
      fmt::print(stderr, "{}: {} ({})\n", input_name(s.predict), counted(data.pairs.size(), "pair"),
                 data.pairs.dialect);
    }
  }
  data.range_given = !s.range.empty();
  data.low = format.low;
  data.high = format.high;
  if (!data.range_given) {
    data.low = std::numeric_limits<double>::infinity();
    data.high = -data.low;
    for (const index_t i : data.train) {
      data.low = std::min(data.low, data.ratings.value[static_cast<std::size_t>(i)]);
      data.high = std::max(data.high, data.ratings.value[static_cast<std::size_t>(i)]);
    }
  }
  return data;
}

/// load(), and what the options can do about a table that cannot be used.
CompletionData load_or_advise(const CompleteSettings& s) {
  using Remedy = RatingsError::Remedy;
  static const std::map<Remedy, const char*> advice = {
      {Remedy::columns, " with --columns USER,ITEM,RATING"},
      {Remedy::skip_bad, "\nmend them, or skip bad lines (--skip-bad)"},
      {Remedy::duplicates, "\nchoose what counts with --duplicates first|last|mean"},
      {Remedy::skip_bad_and_duplicates,
       "\nmend them, or use --skip-bad and --duplicates first|last|mean"}};
  try {
    return load(s);
  } catch (const RatingsError& error) {
    throw InputError(error.what() + std::string(advice.at(error.remedy())));
  }
}

/// The table of errors: with five decimals, or as many digits where the ratings are of a size that
/// decimals do not suit.
void print_errors(std::FILE* to, const std::vector<MethodResult>& methods) {
  double largest = 0;
  for (const MethodResult& m : methods) {
    for (const double v : {m.error.rmse, m.error.mae, m.error.rmse_unclamped}) {
      if (std::isfinite(v)) largest = std::max(largest, v);
    }
  }
  const bool usual = largest == 0 || (largest >= 1e-2 && largest < 1e7);
  const int width = usual ? 9 : 11;
  const auto cell = [usual](double v) {
    if (!std::isfinite(v)) return std::string("-");
    return usual ? fmt::format("{:.5f}", v) : fmt::format("{:.5g}", v);
  };
  fmt::print(to, "\n{:<30} {:>{}} {:>{}} {:>14} {:>9}\n", "method", "RMSE", width, "MAE", width,
             "RMSE unclamped", "seconds");
  for (const MethodResult& m : methods) {
    fmt::print(to, "{:<30} {:>{}} {:>{}} {:>14} {:>9.2f}\n", m.name, cell(m.error.rmse), width,
               cell(m.error.mae), width, cell(m.error.rmse_unclamped), m.seconds);
  }
}

void print_table(std::FILE* to, const CompleteSettings& s, const CompletionData& data,
                 const CompletionOutcome& o) {
  const Ratings& r = data.ratings;
  fmt::print(to, "{}, {} users x {} items, {:.3g} % filled\n", counted(r.size(), "rating"),
             r.users.size(), r.items.size(),
             100.0 * static_cast<double>(r.size()) /
                 (static_cast<double>(r.users.size()) * static_cast<double>(r.items.size())));
  fmt::print(
      to, "train {}{}, test {} ({})\n", data.train.size(),
      o.validation_size > 0 ? fmt::format(" (of them {} to stop early)", o.validation_size) : "",
      data.test.size(), data.test_source);
  if (data.test_in_train > 0) {
    fmt::print(to, "{} among the ratings, taken out of training\n",
               counted(data.test_in_train, "test rating"));
  }
  if (data.test_cold > 0) {
    fmt::print(
        to,
        "{} of a user or an item without training ratings: predicted by the mean and the other's "
        "bias\n",
        counted(data.test_cold, "test rating"));
  }
  if (!o.rank_note.empty()) fmt::print(to, "{}\n", o.rank_note);
  print_errors(to, o.methods);
  fmt::print(to, "\nPredictions are clamped to {:g}..{:g}, {}.\n", data.low, data.high,
             data.range_given ? "as given with --range" : "the range of the training ratings");
  if (data.test.size() == 0) fmt::print(to, "There are no test ratings, hence no errors.\n");
  if (o.rank == 0) return;
  const DeepCompletionFit& f = o.fit;
  if (f.spectrum.sigma1 == 0) {
    fmt::print(to, "The biases explain every rating: nothing is left to factor.\n");
    return;
  }
  fmt::print(
      to,
      "Deep completion of the residual of the biases: depth {}, factors {} wide, gamma {:g}, "
      "eps {:.3g}, step {:.4g} (stability number {:.3g}, limit 2{}{}); stopped at iteration {}, "
      "best {}{}; "
      "{:.3g} s an iteration.\n",
      s.deep.depth, 2 * o.rank, s.deep.gamma, f.eps, f.step, f.stability,
      s.deep.step > 0 ? "" : ", automatic",
      f.halvings > 0 ? fmt::format(", halved {} times", f.halvings) : "", o.iterations,
      f.best_iteration, o.refitted ? ", then refitted on all training ratings" : "",
      f.seconds_per_iteration);
}

void print_predictions(std::FILE* to, const PredictionCounts& predictions) {
  fmt::print(to, "{} in {}", counted(predictions.pairs, "prediction"),
             predictions.path == "-" ? "stdout" : predictions.path);
  if (predictions.unknown > 0) {
    fmt::print(to,
               "; {} of them for a user or an item without training ratings, by the mean and the "
               "other's bias",
               predictions.unknown);
  }
  fmt::print(to, "\n");
}

/// 0, or what an interrupted training comes to: its results are there, and the exit code says that
/// there could have been more.
int finished(const CompletionOutcome& outcome) {
  if (!outcome.interrupted) return 0;
  throw Interrupted(fmt::format(
      "complete: interrupted at iteration {}; the results are those of iteration {}{}",
      outcome.iterations, outcome.fit.best_iteration,
      outcome.validation_size > 0 ? ", the best until then, without the validation part" : ""));
}

int complete(const CompleteSettings& s) {
  apply_threads(s.threads);
  check_settings(s);
  if (!s.generate.empty()) return generate(s);
  check_outputs(s);
  choice_of<int>("--baselines", s.baselines, {{"all", 0}, {"simple", 1}});
  try_outputs(s);
  const CompletionData data = load_or_advise(s);
  const CompletionOutcome outcome = train_completion(s, data);
  PredictionCounts predictions;
  if (!s.predict.empty()) {
    predictions = write_predictions(data, outcome.fit.model, predictions_path(s));
  }
  if (!s.factors.empty()) write_factors(s, data, outcome, s.factors);
  const std::string json = complete_json(s, data, outcome, predictions);
  if (!s.out.empty()) write_complete_folder(s, data, outcome, json);
  if (s.json) {
    std::fputs(json.c_str(), stdout);
    return finished(outcome);
  }
  const bool predictions_there = s.output == "-";
  if (predictions_there && s.quiet) return finished(outcome);
  std::FILE* const to = predictions_there ? stderr : stdout;
  print_table(to, s, data, outcome);
  if (!predictions.path.empty()) print_predictions(to, predictions);
  std::fflush(to);
  return finished(outcome);
}

}  // namespace

Command complete_command() {
  auto s = std::make_shared<CompleteSettings>();
  s->threads = threads_unset;
  s->deep.rank = rank_unset;
  Command c;
  c.name = "complete";
  c.summary = "Complete a table of ratings by deep matrix completion";
  c.details =
      "Reads lines of user, item, rating (tab, comma, semicolon, bar, '::' or blanks; header or "
      "not; "
      "any ids; further columns are not read), holds a part out, and prints the error of deep "
      "completion beside that of the global mean, user + item bias, truncated SVD, alternating "
      "least "
      "squares and alternating minimisation. The deep model is trained on what the biases leave, "
      "scaled so that its top singular value is 1, and stops where a validation part of the "
      "training "
      "ratings is predicted best. Ctrl-C ends the training with the best factors until then: "
      "they are judged and written as usual, and the exit code is 130.";
  c.examples = {
      "parsimony complete --ratings ratings.csv",
      "parsimony complete --ratings u.data --test u1.test --rank 10 --json",
      "parsimony complete --ratings r.txt --delimiter ';' --columns who,what,stars --range 1:5",
      "parsimony complete --ratings r.csv --predict pairs.csv --output predictions.csv --factors "
      "f/",
      "parsimony complete --generate 1000x500x5x50000 --ratings made.csv"};
  DeepCompletionOptions& d = s->deep;
  c.options = {
      {"--ratings", "FILE", "the table of ratings; - for the standard input", &s->ratings, true},
      {"--test", "FILE", "ratings to test on, in place of --holdout; they leave the training part",
       &s->test},
      {"--holdout", "F", "fraction held out as test (0.1; 0 = none)", &s->holdout},
      {"--validation", "F", "fraction of the rest held out to stop early (0.1)", &s->validation},
      {"--predict", "FILE", "pairs of user and item to predict", &s->predict},
      {"--output", "FILE", "where the predictions go, as CSV; -: stdout, and the table to stderr",
       &s->output},
      {"--factors", "PATH", "folder, or .safetensors file, for factors and ids", &s->factors},
      {"--out", "DIR", "folder for summary, metrics, factors and predictions", &s->out},
      {"--delimiter", "TEXT",
       "between columns: tab, comma, blanks, ... or any text (found out); of pairs too, if it "
       "splits them",
       &s->delimiter},
      {"--header", "WORD", "of the ratings and --test: yes, no or detect (detect)", &s->header},
      {"--columns", "U,I,R",
       "user, item, rating by name or number (usual names; 1,2,3 if there is none); of pairs too, "
       "if they have them",
       &s->columns},
      {"--range", "LOW:HIGH", "ratings outside are bad lines; predictions are clamped to it",
       &s->range},
      {"--duplicates", "WORD", "pairs rated twice: error, first, last or mean (error)",
       &s->duplicates},
      {"--skip-bad", "", "leave bad lines out and count them", &s->skip_bad},
      {"--rank", "R", "rank; factors are 2R wide (10, less for small tables)", &d.rank},
      {"--depth", "L", "factors between the outer two (3)", &d.depth},
      {"--gamma", "G", "step of the outer factors as a share of the inner ones' (0.1)", &d.gamma},
      {"--step", "ETA", "step for a residual of top singular value 1 (0 = automatic)", &d.step},
      {"--eps", "E", "scale of the first inner factors (0 = automatic)", &d.eps},
      {"--momentum", "M", "heavy ball in [0, 1); 0 is plain gradient descent (0.9)", &d.momentum},
      {"--weight-decay", "W", "of the inner factors (0)", &d.weight_decay},
      {"--iterations", "N", "at most (2000)", &d.iterations},
      {"--patience", "N", "iterations without a better validation error before stopping (200)",
       &d.patience},
      {"--no-refit", "", "do not train again with the validation part", &s->no_refit},
      {"--single", "", "train in single precision", &s->single},
      {"--baselines", "WORD", "all, or simple: only mean and biases (all)", &s->baselines},
      {"--generate", "RxCxKxN",
       "write N ratings of an R x C matrix of rank K to --ratings, and stop", &s->generate},
      {"--noise", "S", "standard deviation of noise in generated ratings (0)", &s->noise},
      {"--seed", "N", "of splits and starts (0)", &s->seed},
      threads_option(&s->threads),
      json_option(&s->json),
      quiet_option(&s->quiet)};
  c.action = [s] { return complete(*s); };
  return c;
}

}  // namespace parsimony::cli
