// Special tokens written in a text, such as "[MASK]". They are found before anything else happens
// to the text, in this spelling only, inside words too.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace parsimony::text {

/// In BERT's order.
inline constexpr std::array<std::string_view, 5> special_names = {"[PAD]", "[UNK]", "[CLS]",
                                                                  "[SEP]", "[MASK]"};
enum Special : std::size_t { pad, unk, cls, sep, mask };

/// Calls on_text(part, where it begins) for what lies between special tokens, on_special(index in
/// special_names) for those, in order.
template <class OnText, class OnSpecial>
void split_at_specials(std::string_view text, OnText&& on_text, OnSpecial&& on_special) {
  std::size_t from = 0;
  std::size_t at = text.find('[');
  while (at != std::string_view::npos) {
    std::size_t which = 0;
    while (which < special_names.size() &&
           text.substr(at, special_names[which].size()) != special_names[which]) {
      ++which;
    }
    if (which < special_names.size()) {
      if (at > from) on_text(text.substr(from, at - from), from);
      on_special(which);
      from = at + special_names[which].size();
      at = text.find('[', from);
    } else {
      at = text.find('[', at + 1);
    }
  }
  if (from < text.size()) on_text(text.substr(from), from);
}

}  // namespace parsimony::text
