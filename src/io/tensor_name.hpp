// Names of tensors come from files and may be anything.
#pragma once

#include <parsimony/strings.hpp>

#include <string>
#include <string_view>

namespace parsimony {

/// A tensor's name as messages and tables show it.
inline std::string shown_name(std::string_view name) { return printable(name, 200); }

}  // namespace parsimony
