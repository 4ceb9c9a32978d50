// Which weights an adapter was made for.
#pragma once

#include <parsimony/module.hpp>

#include <functional>
#include <string>

namespace parsimony {

/// A hash of names, shapes and values of a model's parameters in their order, but for those that an
/// adapter folder holds itself; sixteen hexadecimal digits.
template <class T>
std::string fingerprint(const Module<T>& model,
                        const std::function<bool(const std::string&)>& is_held);

}  // namespace parsimony
