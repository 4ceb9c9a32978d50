// Whether a picture's file ends where its format says that it ends: what a full disk cuts short
// does not.
#pragma once

#include <string_view>

namespace parsimony::report {

inline bool ends_with(std::string_view bytes, std::string_view end) {
  return bytes.size() >= end.size() && bytes.substr(bytes.size() - end.size()) == end;
}

/// @param kind "svg" or "png"
inline bool is_whole_picture(std::string_view kind, std::string_view bytes) {
  using namespace std::string_view_literals;
  if (kind == "png") return ends_with(bytes, "\0\0\0\0IEND\xae\x42\x60\x82"sv);
  const std::size_t last = bytes.find_last_not_of(" \t\r\n");
  return last != std::string_view::npos && ends_with(bytes.substr(0, last + 1), "</svg>");
}

}  // namespace parsimony::report
