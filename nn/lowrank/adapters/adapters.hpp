// What an adapter's file includes. Each defines one function, register_<its name>, which adds its
// methods to the registry.
#pragma once

#include <parsimony/adapter.hpp>
#include <parsimony/error.hpp>

#include "adapter_list.hpp"

namespace parsimony {

#define PARSIMONY_DECLARE(name) void register_##name();
PARSIMONY_ADAPTERS(PARSIMONY_DECLARE)
#undef PARSIMONY_DECLARE

}  // namespace parsimony
