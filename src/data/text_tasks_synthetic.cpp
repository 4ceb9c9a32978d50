// The generated task: sentences of five slots and a score that counts the slots that agree. What
// makes it more than counting common words are the synonyms: a slot agrees half of the time in
// other words.
#include <parsimony/error.hpp>
#include <parsimony/text_tasks.hpp>

#include <algorithm>
#include <array>
#include <unordered_set>

#include <fmt/format.h>

namespace parsimony {

namespace {

constexpr std::size_t slots = 5;
constexpr std::size_t values = 8;

using Synonyms = std::array<const char*, 2>;

// "the old man is fixing the car in the garden": how, who, what they do, to what, where.
constexpr std::array<std::array<Synonyms, values>, slots> words = {{{{{"happy", "glad"},
                                                                      {"big", "large"},
                                                                      {"small", "little"},
                                                                      {"old", "elderly"},
                                                                      {"angry", "mad"},
                                                                      {"rich", "wealthy"},
                                                                      {"quiet", "silent"},
                                                                      {"strong", "powerful"}}},
                                                                    {{{"man", "guy"},
                                                                      {"woman", "lady"},
                                                                      {"child", "kid"},
                                                                      {"dog", "puppy"},
                                                                      {"doctor", "physician"},
                                                                      {"king", "ruler"},
                                                                      {"thief", "robber"},
                                                                      {"friend", "companion"}}},
                                                                    {{{"watching", "viewing"},
                                                                      {"throwing", "tossing"},
                                                                      {"pulling", "dragging"},
                                                                      {"fixing", "repairing"},
                                                                      {"buying", "purchasing"},
                                                                      {"cleaning", "washing"},
                                                                      {"finding", "discovering"},
                                                                      {"breaking", "smashing"}}},
                                                                    {{{"car", "automobile"},
                                                                      {"stone", "rock"},
                                                                      {"cup", "mug"},
                                                                      {"picture", "photo"},
                                                                      {"coat", "jacket"},
                                                                      {"boat", "ship"},
                                                                      {"rope", "cord"},
                                                                      {"gift", "present"}}},
                                                                    {{{"forest", "woods"},
                                                                      {"house", "home"},
                                                                      {"street", "road"},
                                                                      {"shop", "store"},
                                                                      {"garden", "yard"},
                                                                      {"city", "town"},
                                                                      {"school", "college"},
                                                                      {"hospital", "clinic"}}}}};

using Meaning = std::array<std::size_t, slots>;

std::size_t draw(Rng& rng, std::size_t bound) {
  return static_cast<std::size_t>(rng.below(static_cast<index_t>(bound)));
}

std::string sentence(const Meaning& meaning, Rng& rng) {
  std::array<const char*, slots> w{};
  for (std::size_t s = 0; s < slots; ++s) w[s] = words[s][meaning[s]][draw(rng, 2)];
  return fmt::format("the {} {} is {} the {} in the {}", w[0], w[1], w[2], w[3], w[4]);
}

TextExample draw_pair(Rng& rng) {
  const auto score = static_cast<index_t>(draw(rng, slots + 1));
  const std::vector<index_t> agreeing = rng.choose(slots, score);
  Meaning a{};
  Meaning b{};
  for (std::size_t s = 0; s < slots; ++s) {
    a[s] = draw(rng, values);
    b[s] = (a[s] + 1 + draw(rng, values - 1)) % values;
  }
  for (const index_t s : agreeing) b[static_cast<std::size_t>(s)] = a[static_cast<std::size_t>(s)];
  TextExample example;
  example.first = sentence(a, rng);
  example.second = sentence(b, rng);
  example.label = static_cast<double>(score);
  return example;
}

/// `count` different pairs. A hash gives every pair to train or to dev, a quarter of them to dev,
/// so that neither depends on the size of the other.
std::vector<TextExample> draw_pairs(const Rng& base, bool for_dev, index_t count) {
  Rng rng = base.split(for_dev ? "dev" : "train");
  const Rng sides = base.split("sides");
  std::unordered_set<std::string> seen;
  std::vector<TextExample> out;
  out.reserve(static_cast<std::size_t>(count));
  while (static_cast<index_t>(out.size()) < count) {
    TextExample example = draw_pair(rng);
    std::string key = example.first + "\t" + example.second;
    if ((sides.split(key).below(4) == 0) != for_dev) continue;
    if (seen.insert(std::move(key)).second) out.push_back(std::move(example));
  }
  return out;
}

}  // namespace

TextSplits synthetic_pairs(const SyntheticOptions& options) {
  // Pairs that agree in every slot are the fewest, 2^25; a sixth of all drawn are such.
  constexpr index_t most = 10'000'000;
  if (options.train < 1 || options.train > most || options.dev < 0 || options.dev > most) {
    throw ValueError(
        fmt::format("synthetic: expected 1 to {} pairs of train and 0 to {} of dev; "
                    "got {} and {}",
                    most, most, options.train, options.dev));
  }
  TextSplits splits;
  splits.task.name = "synthetic";
  splits.task.pair = true;
  splits.task.metric = "pearson";
  splits.task.other_metrics = {"spearman"};
  splits.task.low = 0;
  splits.task.high = slots;
  const Rng rng = Rng(options.seed).split("synthetic pairs");
  splits.train = draw_pairs(rng, false, options.train);
  splits.dev = draw_pairs(rng, true, options.dev);
  return splits;
}

}  // namespace parsimony
