// As standard.hpp, where most files read or write JSON.
#include "io/nlohmann.hpp"
#include "precompiled/standard.hpp"
