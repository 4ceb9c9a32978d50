// What pretraining is made of: packing of text into sequences, masking, and a short run that
// learns and is deterministic.
#include <parsimony/bert.hpp>
#include <parsimony/error.hpp>
#include <parsimony/files.hpp>
#include <parsimony/pretrain.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include <fmt/format.h>

#include "support/catch.hpp"
#include "support/temp_folder.hpp"

using namespace parsimony;
using namespace parsimony::testing;

namespace {

/// "w0" ... "w199", each one token.
WordPieceTokenizer numbered() {
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (int i = 0; i < 200; ++i) tokens.push_back("w" + std::to_string(i));
  return WordPieceTokenizer(tokens);
}

/// `words` numbered words in lines of the given lengths, over and over.
std::string numbered_text(int words, const std::vector<int>& lengths) {
  std::string text;
  std::size_t line = 0;
  int left = lengths[0];
  for (int i = 0; i < words; ++i) {
    text += "w" + std::to_string(i % 200);
    if (--left == 0) {
      text += '\n';
      left = lengths[++line % lengths.size()];
    } else {
      text += ' ';
    }
  }
  return text + "\n";
}

struct Sequence {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> types;
};
Sequence sequence(const PackedCorpus& corpus, index_t i) {
  const auto from = static_cast<std::size_t>(i * corpus.length);
  const auto to = from + static_cast<std::size_t>(corpus.length);
  return {
      {corpus.ids.begin() + static_cast<long>(from), corpus.ids.begin() + static_cast<long>(to)},
      {corpus.type_ids.begin() + static_cast<long>(from),
       corpus.type_ids.begin() + static_cast<long>(to)}};
}

}  // namespace

TEST_CASE("pretrain: packed sequences hold the text in order, nothing twice", "[pretrain]") {
  const TempFolder folder;
  const WordPieceTokenizer t = numbered();
  // Lines of a few words, of about a sequence, and one line alone; blank lines between.
  for (const std::vector<int>& lengths :
       {std::vector<int>{3, 5, 2}, {17}, {40, 3}, {1}, {7, 60}, {100000}}) {
    for (const index_t length : {8, 16, 33}) {
      CAPTURE(lengths, length);
      write_raw(folder / "text", "\n\n" + numbered_text(1000, lengths) + "\n  \n");
      const PackedCorpus corpus = pack_corpus(t, {folder / "text"}, length);
      REQUIRE(corpus.size() >= 1000 / length);
      CHECK(corpus.tokens() == corpus.size() * length);
      int next = 0;
      index_t pairs = 0;
      for (index_t i = 0; i < corpus.size(); ++i) {
        const Sequence s = sequence(corpus, i);
        CHECK(s.ids.front() == t.cls_id());
        CHECK(s.ids.back() == t.sep_id());
        const auto marks = std::count(s.ids.begin(), s.ids.end(), t.sep_id());
        CHECK((marks == 1 || marks == 2));
        pairs += marks == 2 ? 1 : 0;
        // Type 1 from after the first [SEP] where there are two.
        std::uint8_t type = 0;
        for (std::size_t j = 0; j < s.ids.size(); ++j) {
          CHECK(s.types[j] == type);
          if (s.ids[j] == t.sep_id() && marks == 2 && type == 0) {
            type = 1;
            // What follows begins a line.
            int at = 0;
            std::size_t line = 0;
            while (at < next) at += lengths[line++ % lengths.size()];
            CHECK(at == next);
          }
          if (t.is_special(s.ids[j])) continue;
          CHECK(s.ids[j] == 5 + next % 200);
          ++next;
        }
      }
      CHECK(next > 1000 - 2 * length);  // all but the rest of a sequence
      if (lengths.size() == 3) CHECK(pairs == corpus.size());
      if (lengths[0] == 100000) CHECK(pairs == 0);
    }
  }
}

TEST_CASE("pretrain: sequences do not cross files", "[pretrain]") {
  const TempFolder folder;
  const WordPieceTokenizer t = numbered();
  write_raw(folder / "a", numbered_text(100, {10}));
  write_raw(folder / "b", numbered_text(57, {9}));
  const PackedCorpus a = pack_corpus(t, {folder / "a"}, 16);
  const PackedCorpus b = pack_corpus(t, {folder / "b"}, 16);
  const PackedCorpus both = pack_corpus(t, {folder / "a", folder / "b"}, 16);
  auto ids = a.ids;
  ids.insert(ids.end(), b.ids.begin(), b.ids.end());
  CHECK(both.ids == ids);
  // A last line without an end, and DOS line ends, are lines like others.
  std::string dos;
  for (const char c : numbered_text(57, {9})) dos += c == '\n' ? "\r\n" : std::string(1, c);
  write_raw(folder / "c", dos.substr(0, dos.size() - 2));
  CHECK(pack_corpus(t, {folder / "c"}, 16).ids == b.ids);
}

TEST_CASE(
    "pretrain: windows are a text in order, with the token of the beginning if the family has",
    "[pretrain]") {
  class WithBeginning : public WordPieceTokenizer {
   public:
    using WordPieceTokenizer::WordPieceTokenizer;
    bool begins_with_bos() const override { return true; }
  };
  const TempFolder folder;
  write_raw(folder / "a.txt", numbered_text(50, {7, 3}));
  write_raw(folder / "b.txt", numbered_text(20, {20}));
  const std::vector<std::string> files = {folder / "a.txt", folder / "b.txt"};
  const WordPieceTokenizer plain = numbered();
  const PackedCorpus windows = pack_windows(plain, files, 16);
  REQUIRE(windows.size() == 4);  // 50 = 3 * 16 + 2, 20 = 16 + 4
  for (index_t i = 0; i < 48; ++i) CHECK(windows.ids[static_cast<std::size_t>(i)] == 5 + i);
  CHECK(windows.ids[48] == 5);
  const PackedCorpus begun = pack_windows(WithBeginning(plain.vocabulary()), files, 16);
  REQUIRE(begun.size() == 4);  // of 15 words each
  for (index_t i = 0; i < 48; ++i) {
    const std::int32_t expected =
        i % 16 == 0 ? plain.cls_id() : static_cast<std::int32_t>(4 + i - i / 16);
    CHECK(begun.ids[static_cast<std::size_t>(i)] == expected);
  }
  CHECK_THROWS_WITH(pack_windows(plain, {folder / "b.txt"}, 32), contains("at least one sequence"));
  CHECK_THROWS_AS(pack_windows(plain, files, 4), ValueError);
}

TEST_CASE("pretrain: what packing refuses", "[pretrain]") {
  const TempFolder folder;
  const WordPieceTokenizer t = numbered();
  write_raw(folder / "short", "w1 w2\n");
  write_raw(folder / "empty", "");
  write_raw(folder / "broken", "w1\nw2\nw3 \xFF w4\n");
  CHECK_THROWS_AS(pack_corpus(t, {folder / "short"}, 16), InputError);
  CHECK_THROWS_WITH(pack_corpus(t, {folder / "short"}, 16),
                    contains("at least one sequence of 16 tokens"));
  CHECK_THROWS_AS(pack_corpus(t, {folder / "empty"}, 16), InputError);
  CHECK_THROWS_WITH(pack_corpus(t, {folder / "broken"}, 16), contains("broken': line 3"));
  CHECK_THROWS_AS(pack_corpus(t, {folder / "none"}, 16), InputError);
  CHECK_THROWS_AS(pack_corpus(t, {folder / "short"}, 7), ValueError);
}

TEST_CASE("pretrain: 15 % are predicted; of those 80 % masked, 10 % random, 10 % left",
          "[pretrain]") {
  const TempFolder folder;
  const WordPieceTokenizer t = numbered();
  write_raw(folder / "text", numbered_text(40000, {11, 30}));
  const PackedCorpus corpus = pack_corpus(t, {folder / "text"}, 64);
  std::vector<index_t> rows;
  for (index_t i = 0; i < 400; ++i) rows.push_back(i);
  const MaskedBatch batch = mask_sequences(corpus, rows, t, 0.15, Rng(1));
  REQUIRE(batch.tokens.ids.shape() == Shape{400, 64});
  CHECK_FALSE(batch.tokens.mask.defined());
  double ordinary = 0;
  for (index_t i = 0; i < 400 * 64; ++i) {
    const std::int32_t was = corpus.ids[static_cast<std::size_t>(i)];
    ordinary += t.is_special(was) ? 0 : 1;
    CHECK(batch.tokens.type_ids.data()[i] == corpus.type_ids[static_cast<std::size_t>(i)]);
  }
  const auto predicted = static_cast<double>(batch.places.size());
  CHECK(predicted == std::floor(0.15 * ordinary));
  double masked = 0;
  double kept = 0;
  std::map<std::int64_t, int> random;
  std::set<std::int64_t> places;
  std::array<double, 64> by_position{};
  for (index_t i = 0; i < batch.places.size(); ++i) {
    const std::int64_t place = batch.places.data()[i];
    places.insert(place);
    by_position[static_cast<std::size_t>(place % 64)] += 1;
    const std::int64_t was = corpus.ids[static_cast<std::size_t>(place)];
    const std::int64_t is = batch.tokens.ids.data()[place];
    CHECK(batch.labels.data()[i] == was);
    CHECK_FALSE(t.is_special(static_cast<index_t>(was)));
    if (is == t.mask_id()) {
      ++masked;
    } else if (is == was) {
      ++kept;
    } else {
      ++random[is];
    }
  }
  CHECK(static_cast<index_t>(places.size()) == batch.places.size());
  double drawn = 0;
  for (const auto& [id, times] : random) drawn += times;
  // Four standard deviations of a count out of `predicted`; a random token may be the old one or
  // [MASK] with probability 1 / 205 each.
  const auto near = [&](double count, double share) {
    return std::abs(count - share * predicted) < 4 * std::sqrt(share * (1 - share) * predicted);
  };
  CHECK(near(masked, 0.8));
  CHECK(near(kept, 0.1));
  CHECK(near(drawn, 0.1));
  CHECK(random.size() > 120);                                       // of 205, in about 370 draws
  for (std::size_t j = 1; j < 63; ++j) CHECK(by_position[j] > 20);  // 60 expected
  CHECK(by_position[0] == 0);
  CHECK(by_position[63] == 0);
  // What is not predicted stays.
  for (index_t i = 0; i < 400 * 64; ++i) {
    if (places.count(i) == 0) {
      CHECK(batch.tokens.ids.data()[i] == corpus.ids[static_cast<std::size_t>(i)]);
    }
  }

  // A function of the stream: the same again, another with another, every step anew.
  const MaskedBatch again = mask_sequences(corpus, rows, t, 0.15, Rng(1));
  CHECK(again.places.to_vector() == batch.places.to_vector());
  CHECK(again.tokens.ids.to_vector() == batch.tokens.ids.to_vector());
  const MaskedBatch other = mask_sequences(corpus, rows, t, 0.15, Rng(2));
  CHECK(other.places.to_vector() != batch.places.to_vector());
  // At least one, however few there are.
  CHECK(mask_sequences(corpus, {0}, t, 1e-6, Rng(1)).places.size() == 1);
  CHECK(mask_sequences(corpus, {3, 3}, t, 0.5, Rng(1)).tokens.ids.dim(0) == 2);
}

TEST_CASE("pretrain: text of unknown words only has nothing to predict", "[pretrain]") {
  const TempFolder folder;
  const WordPieceTokenizer t = numbered();
  std::string text;
  for (int i = 0; i < 40; ++i) text += "unknown ";
  write_raw(folder / "text", text);
  const PackedCorpus corpus = pack_corpus(t, {folder / "text"}, 16);
  CHECK_THROWS_AS(mask_sequences(corpus, {0}, t, 0.15, Rng(1)), InputError);
}

TEST_CASE("pretrain: a short run learns, is deterministic and writes a model", "[pretrain]") {
  const TempFolder folder;
  // A text whose words follow each other by a rule.
  std::string text;
  Rng draw(1);
  index_t word = 0;
  for (int line = 0; line < 100; ++line) {
    for (int i = 0; i < 12; ++i) {
      text += std::string(1, static_cast<char>('a' + word)) + std::string(1, 'q') + " ";
      word = draw.uniform() < 0.9 ? (word + 1) % 20 : draw.below(20);
    }
    text += '\n';
  }
  write_raw(folder / "text", text);
  PretrainOptions o;
  o.corpus = {folder / "text"};
  o.out = folder / "one";
  o.vocab_size = 60;
  o.steps = 25;
  o.batch = 8;
  o.length = 16;
  o.learning_rate = 3e-3;
  o.eval_every = 10;
  o.held_out = 0.1;
  o.quiet = true;
  const PretrainResult one = pretrain(o);
  const double uniform = std::log(60.0);
  CHECK(one.loss < 0.9 * uniform);
  CHECK(one.accuracy > 0);
  CHECK(one.tokens_per_second > 0);
  LoadReport report;
  const auto model = load_bert<float>(one.model, BertHead::masked_lm, Rng(1), 0, &report);
  CHECK(report.fresh.empty());
  CHECK(model->config().num_hidden_layers == 2);
  CHECK(model->config().hidden_dropout_prob == 0.1);
  const WordPieceTokenizer tokenizer = WordPieceTokenizer::load(one.model);
  CHECK(tokenizer.size() == model->config().vocab_size);

  o.steps = 2;
  o.out = folder / "two";
  const PretrainResult two = pretrain(o);
  o.out = folder / "three";
  const PretrainResult three = pretrain(o);
  CHECK(three.loss == two.loss);
  CHECK(read_file(three.model + "/model.safetensors") ==
        read_file(two.model + "/model.safetensors"));
  // Pieces for half of the steps, for all, and for none.
  o.short_length = 8;
  const double half = pretrain(o).loss;
  CHECK(half != two.loss);
  o.short_share = 1;
  const double all = pretrain(o).loss;
  CHECK(all != half);
  CHECK(all != two.loss);
  o.short_share = 0;
  CHECK(pretrain(o).loss == two.loss);
  o.short_length = 0;
  o.seed = 1;
  CHECK(pretrain(o).loss != two.loss);

  // What is wrong is said before anything is written.
  o.out = folder / "four";
  const auto refused = [&](const std::function<void(PretrainOptions&)>& edit, const char* says) {
    PretrainOptions bad = o;
    edit(bad);
    CHECK_THROWS_WITH(pretrain(bad), contains(says));
    CHECK_FALSE(std::filesystem::exists(folder / "four"));
  };
  refused([](auto& b) { b.size = "huge"; }, "expected tiny, mini, small or base");
  refused([](auto& b) { b.corpus = {}; }, "at least one text file");
  refused([](auto& b) { b.steps = 0; }, "steps: expected 1 or more; got 0");
  refused([](auto& b) { b.masked = 1; }, "masked: expected a share between 0 and 1; got 1");
  refused([](auto& b) { b.held_out = 0; }, "held-out: expected a share");
  refused([](auto& b) { b.learning_rate = -1; }, "lr: expected a number above 0; got -1");
  refused([](auto& b) { b.format = "f8"; }, "expected f32, f16 or bf16");
  refused([](auto& b) { b.short_length = 5; }, "short-length: expected 8 or more that divides");
  refused([](auto& b) { b.short_length = 12; }, "divides the length 16");
  refused([](auto& b) { b.short_share = 1.5; }, "short-share: expected a share in [0, 1]; got 1.5");
  refused([](auto& b) { b.length = 4; }, "length: expected 8 or more; got 4");
  refused([](auto& b) { b.length = 100000; }, "sequence");

  // From the first run's model: its vocabulary, its loss at step 0 on the same held-out text
  // whatever the seed, and its config in the end.
  PretrainOptions more;
  more.corpus = o.corpus;
  more.model = folder / "one";
  more.out = folder / "more";
  more.steps = 2;
  more.batch = o.batch;
  more.length = o.length;
  more.held_out = o.held_out;
  more.dropout = 0.5;
  more.seed = 3;
  more.quiet = true;
  const PretrainResult longer = pretrain(more);
  const std::string rows = read_file(folder / "more/metrics.csv");
  CHECK_THAT(rows, contains(fmt::format("pretrain,{:.17g},", one.loss)));
  CHECK(longer.loss != one.loss);
  CHECK(read_file(longer.model + "/vocab.txt") == read_file(one.model + "/vocab.txt"));
  CHECK(read_file(longer.model + "/config.json") == read_file(one.model + "/config.json"));
  o.model = folder / "one";
  refused(
      [](auto& b) {
        b.vocab_size.reset();
        b.size = "tiny";
      },
      "size: the model to go on from has its own");
  refused([](auto&) {}, "vocab-size: the model to go on from");
  refused(
      [](auto& b) {
        b.vocab_size.reset();
        b.model = "scratch:tiny";
      },
      "expected a trained model");
  refused(
      [](auto& b) {
        b.vocab_size.reset();
        b.length = 1024;
      },
      "has 512 positions");
  refused(
      [](auto& b) {
        b.vocab_size.reset();
        b.model += "x";
      },
      "did you mean");
}
