// Special tokens written in a text, such as "[MASK]", and tokens that a model's folder adds to
// them. They are found before anything else happens to the text, in this spelling only, inside
// words too.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace parsimony::text {

/// In BERT's order.
inline constexpr std::array<std::string_view, 5> special_names = {"[PAD]", "[UNK]", "[CLS]",
                                                                  "[SEP]", "[MASK]"};
enum Special : std::size_t { pad, unk, cls, sep, mask };

/// BERT's, and after them the added ones.
class Specials {
 public:
  explicit Specials(const std::vector<std::string>& added = {})
      : names_(special_names.begin(), special_names.end()) {
    names_.insert(names_.end(), added.begin(), added.end());
    for (const std::string& name : names_) {
      if (firsts_.find(name.front()) == std::string::npos) firsts_ += name.front();
    }
  }

  /// Calls on_text(part, where it begins) for what lies between special tokens, on_special(index,
  /// BERT's first) for those, in order. Of two that begin at one place the longer is there.
  template <class OnText, class OnSpecial>
  void split(std::string_view text, OnText&& on_text, OnSpecial&& on_special) const {
    std::size_t from = 0;
    for (std::size_t at = next(text, 0); at != std::string_view::npos;) {
      std::size_t which = names_.size();
      std::size_t length = 0;
      for (std::size_t i = 0; i < names_.size(); ++i) {
        if (names_[i].size() <= length || text.substr(at, names_[i].size()) != names_[i]) continue;
        which = i;
        length = names_[i].size();
      }
      if (length > 0) {
        if (at > from) on_text(text.substr(from, at - from), from);
        on_special(which);
        from = at + length;
      }
      at = next(text, at + std::max<std::size_t>(length, 1));
    }
    if (from < text.size()) on_text(text.substr(from), from);
  }

 private:
  std::size_t next(std::string_view text, std::size_t from) const {
    return firsts_.size() == 1 ? text.find(firsts_[0], from) : text.find_first_of(firsts_, from);
  }
  std::vector<std::string> names_;
  std::string firsts_;
};

}  // namespace parsimony::text
