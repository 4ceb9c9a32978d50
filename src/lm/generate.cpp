// Generation: the likeliest token, draws, or beam search.
#include <parsimony/error.hpp>
#include <parsimony/generate.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

namespace parsimony {

namespace {

using Ids = std::vector<std::int32_t>;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::int32_t largest(const Tensor<float>& scores) {
  const auto at = std::max_element(scores.begin(), scores.end());
  if (!std::isfinite(*at)) throw NumericalError("generate: a score is not finite");
  return static_cast<std::int32_t>(at - scores.begin());
}

/// log softmax, in double.
std::vector<double> log_probabilities(const Tensor<float>& scores, double temperature) {
  const double top = static_cast<double>(scores.data()[largest(scores)]);
  std::vector<double> out;
  double sum = 0;
  for (const float s : scores) {
    out.push_back((static_cast<double>(s) - top) / temperature);
    sum += std::exp(out.back());
  }
  if (!std::isfinite(sum)) throw NumericalError("generate: a score is not finite");
  for (double& x : out) x -= std::log(sum);
  return out;
}

/// Tokens by falling probability, equal ones by id; only the first `count` are in order.
Ids by_probability(const std::vector<double>& log_p, std::size_t count) {
  Ids order(log_p.size());
  std::iota(order.begin(), order.end(), 0);
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](std::int32_t a, std::int32_t b) {
                      const double pa = log_p[static_cast<std::size_t>(a)];
                      const double pb = log_p[static_cast<std::size_t>(b)];
                      return pa != pb ? pa > pb : a < b;
                    });
  order.resize(count);
  return order;
}

/// A draw among the likeliest that top-k and top-p leave, and its log probability.
std::int32_t draw(const std::vector<double>& log_p, const GenerateOptions& o, Rng rng) {
  const std::size_t all = log_p.size();
  const std::size_t k = o.top_k > 0 ? std::min(all, static_cast<std::size_t>(o.top_k)) : all;
  const Ids order = by_probability(log_p, k);
  double mass = 0;
  std::size_t kept = 0;
  double whole = 0;  // of the k likeliest, of which top-p is a share
  for (const std::int32_t id : order) whole += std::exp(log_p[static_cast<std::size_t>(id)]);
  while (kept < k && (kept == 0 || mass < o.top_p * whole)) {
    mass += std::exp(log_p[static_cast<std::size_t>(order[kept])]);
    ++kept;
  }
  double u = rng.uniform() * mass;
  for (std::size_t i = 0; i + 1 < kept; ++i) {
    u -= std::exp(log_p[static_cast<std::size_t>(order[i])]);
    if (u < 0) return order[i];
  }
  return order[kept - 1];
}

void check(const Decoder<float>& model, const Ids& prompt, const GenerateOptions& o) {
  const auto need = [](bool ok, const std::string& what) {
    if (!ok) throw ValueError("generate: expected " + what);
  };
  need(!prompt.empty(), "a prompt of at least one token");
  need(o.max_tokens >= 0, fmt::format("max-tokens of 1 or more; got {}", o.max_tokens));
  need(o.temperature >= 0 && std::isfinite(o.temperature),
       fmt::format("a temperature of 0 or more; got {}", o.temperature));
  need(o.top_k >= 0, fmt::format("top-k of 1 or more, or 0 for all; got {}", o.top_k));
  need(o.top_p > 0 && o.top_p <= 1, fmt::format("top-p above 0, at most 1; got {}", o.top_p));
  need(o.beams >= 1 && o.beams <= 256, fmt::format("1 to 256 beams; got {}", o.beams));
  need(o.beams == 1 || o.temperature == 0, "beams or a temperature, not both");
  const index_t window = model.config().positions;
  const auto read = static_cast<index_t>(prompt.size());
  if (read >= window || read + o.max_tokens > window) {
    throw ValueError(fmt::format(
        "generate: the context window is of {} tokens; the prompt has {}{}", window, read,
        read >= window ? ", which leaves no room for a new one"
                       : fmt::format(" and {} more are asked for; at most {} fit", o.max_tokens,
                                     window - read)));
  }
}

/// The scores of the ids that may be chosen.
Tensor<float> choices(const Tensor<float>& scores, const GenerateOptions& o) {
  return o.vocabulary > 0 ? scores.rows(0, std::min(o.vocabulary, scores.size())) : scores;
}

/// One continuation of a beam search.
struct Beam {
  Ids ids;
  double log_p = 0;
  KeyValueCache<float> cache;
  Tensor<float> scores;  // of the token after
  double normalised(double penalty) const {
    return log_p / std::pow(static_cast<double>(std::max<std::size_t>(ids.size(), 1)), penalty);
  }
};

Generated beam_search(const Decoder<float>& model, const Ids& prompt, index_t limit,
                      const GenerateOptions& o, const std::function<bool(std::int32_t)>& is_end) {
  const auto capacity = static_cast<index_t>(prompt.size()) + limit;
  const auto width = static_cast<std::size_t>(o.beams);
  const auto score = [&](Beam& beam) {
    if (o.cache) {
      const Ids last = beam.ids.empty() ? prompt : Ids{beam.ids.back()};
      beam.scores = choices(next_scores(model, last, &beam.cache), o);
    } else {
      Ids all = prompt;
      all.insert(all.end(), beam.ids.begin(), beam.ids.end());
      beam.scores = choices(next_scores(model, all), o);
    }
  };
  std::vector<Beam> live;
  live.push_back({{}, 0, model.cache(capacity), {}});
  score(live[0]);
  std::vector<Beam> done;
  const auto better = [&](const Beam& a, const Beam& b) {
    return a.normalised(o.length_penalty) > b.normalised(o.length_penalty);
  };
  for (index_t step = 0; step < limit && !live.empty(); ++step) {
    struct Next {
      double log_p;
      std::size_t beam;
      std::int32_t id;
    };
    std::vector<Next> next;
    for (std::size_t b = 0; b < live.size(); ++b) {
      const std::vector<double> log_p = log_probabilities(live[b].scores, 1.0);
      for (const std::int32_t id : by_probability(log_p, 2 * width)) {
        next.push_back({live[b].log_p + log_p[static_cast<std::size_t>(id)], b, id});
      }
    }
    std::stable_sort(next.begin(), next.end(),
                     [](const Next& a, const Next& b) { return a.log_p > b.log_p; });
    std::vector<Beam> grown;
    for (std::size_t i = 0; i < next.size() && grown.size() < width; ++i) {
      const Beam& from = live[next[i].beam];
      if (is_end && is_end(next[i].id)) {
        if (i < width) done.push_back({from.ids, next[i].log_p, model.cache(1), {}});
        continue;
      }
      Beam beam{from.ids, next[i].log_p, from.cache.clone(), {}};
      beam.ids.push_back(next[i].id);
      grown.push_back(std::move(beam));
    }
    live = std::move(grown);
    std::stable_sort(done.begin(), done.end(), better);
    // What is done cannot be overtaken by what only gets less likely.
    if (done.size() >= width && !live.empty() && better(done[width - 1], live[0])) break;
    if (step + 1 < limit) {
      for (Beam& beam : live) score(beam);
    }
  }
  const bool ended = !done.empty() && (live.empty() || !better(live[0], done[0]));
  const Beam& best = ended ? done[0] : live[0];
  return {best.ids, ended ? "end" : "length", best.log_p, 0};
}

}  // namespace

Tensor<float> next_scores(const Decoder<float>& model, const Ids& ids,
                          KeyValueCache<float>* cache) {
  const NoGrad no_grad;
  Tensor<std::int64_t> input({1, static_cast<index_t>(ids.size())});
  std::copy(ids.begin(), ids.end(), input.mutable_data());
  Pass pass;
  const Tensor<float> x = model.hidden(input, {}, pass, cache).value();
  const index_t last = x.dim(1) - 1;
  const Var<float> row(x.reshape({x.dim(1), x.dim(2)}).rows(last, last + 1));
  return model.token_logits(row, pass).value().reshape({model.config().vocab_size});
}

Generated generate(const Decoder<float>& model, const Ids& prompt, const GenerateOptions& o,
                   const std::function<bool(std::int32_t)>& is_end) {
  check(model, prompt, o);
  const auto start = std::chrono::steady_clock::now();
  const index_t room = model.config().positions - static_cast<index_t>(prompt.size());
  constexpr index_t usual = 128;
  const index_t limit = o.max_tokens > 0 ? o.max_tokens : std::min(usual, room);
  Generated out;
  if (o.beams > 1) {
    out = beam_search(model, prompt, limit, o, is_end);
  } else {
    const Rng rng = Rng(o.seed).split("generate");
    KeyValueCache<float> cache = model.cache(static_cast<index_t>(prompt.size()) + limit);
    Ids all = prompt;
    Ids fresh = prompt;
    while (static_cast<index_t>(out.ids.size()) < limit) {
      const Tensor<float> scores =
          choices(o.cache ? next_scores(model, fresh, &cache) : next_scores(model, all), o);
      std::int32_t id = 0;
      if (o.temperature > 0) {
        const std::vector<double> log_p = log_probabilities(scores, o.temperature);
        id = draw(log_p, o, rng.split(static_cast<std::uint64_t>(out.ids.size())));
        out.log_probability += log_p[static_cast<std::size_t>(id)];
      } else {
        id = largest(scores);
      }
      if (is_end && is_end(id)) {
        out.stopped = "end";
        break;
      }
      out.ids.push_back(id);
      all.push_back(id);
      fresh.assign(1, id);
    }
  }
  if (out.stopped != "end") out.stopped = limit == room ? "context" : "length";
  out.seconds = seconds_since(start);
  return out;
}

double Perplexity::perplexity() const { return std::exp(loss); }

Perplexity perplexity(const LanguageModel& model, const Ids& ids, const PerplexityOptions& o) {
  const NoGrad no_grad;
  const auto start = std::chrono::steady_clock::now();
  const index_t window = model.decoder->config().positions;
  const index_t bos = model.tokenizer->begins_with_bos() ? 1 : 0;
  const index_t length = (o.length > 0 ? o.length : window) - bos;
  const index_t stride = o.stride > 0 ? o.stride : length;
  if (o.length < 0 || length < 1 || length + bos < 2 || length + bos > window || stride > length ||
      o.stride < 0 || o.batch < 1) {
    throw ValueError(fmt::format(
        "perplexity: expected a length of 2..{}, a stride of 1 up to it and a batch of 1 or more; "
        "got {}, {} and {}",
        window, o.length, o.stride, o.batch));
  }
  const auto total = static_cast<index_t>(ids.size());
  if (total < 2)
    throw ValueError(fmt::format("perplexity: expected 2 tokens or more; got {}", total));
  Perplexity out;
  double sum = 0;
  // Windows of one size go together.
  struct Window {
    index_t begin, end, from;  // tokens [from, end) are scored
  };
  std::vector<Window> windows;
  for (index_t begin = 0, scored = 1 - bos; scored < total; begin += stride) {
    const index_t end = std::min(total, begin + length);
    windows.push_back({begin, end, scored});
    scored = end;
  }
  for (std::size_t at = 0; at < windows.size();) {
    const index_t n = windows[at].end - windows[at].begin;
    std::size_t end = at;
    while (end < windows.size() && end < at + static_cast<std::size_t>(o.batch) &&
           windows[end].end - windows[end].begin == n) {
      ++end;
    }
    const auto count = static_cast<index_t>(end - at);
    const index_t row = n + bos;
    Tensor<std::int64_t> input({count, row});
    Tensor<std::int64_t> labels({count * row});
    std::fill_n(labels.mutable_data(), labels.size(), -100);
    index_t scored = 0;
    for (index_t b = 0; b < count; ++b) {
      const Window& w = windows[at + static_cast<std::size_t>(b)];
      if (bos > 0) input.mutable_data()[b * row] = model.tokenizer->bos_id();
      for (index_t i = w.begin; i < w.end; ++i) {
        const index_t place = b * row + bos + i - w.begin;
        input.mutable_data()[place] = ids[static_cast<std::size_t>(i)];
        // A window's own first token has nothing before it to be foretold from.
        if (i >= w.from && place > b * row) {
          labels.mutable_data()[place - 1] = ids[static_cast<std::size_t>(i)];
          ++scored;
        }
      }
    }
    if (scored > 0) {
      Pass pass;
      const Var<float> x = model.decoder->hidden(input, {}, pass);
      const Var<float> scores =
          model.decoder->token_logits(Var<float>(x.value().reshape({count * row, x.dim(2)})), pass);
      const auto loss = static_cast<double>(cross_entropy(scores, labels).item());
      if (!std::isfinite(loss)) throw NumericalError("perplexity: the loss is not finite");
      sum += loss * static_cast<double>(scored);
      out.tokens += scored;
    }
    at = end;
    if (o.progress) o.progress(static_cast<index_t>(at), static_cast<index_t>(windows.size()));
  }
  out.loss = sum / static_cast<double>(std::max<index_t>(out.tokens, 1));
  out.seconds = seconds_since(start);
  return out;
}

}  // namespace parsimony
