#define PARSIMONY_JSON_INSTANTIATE
#define PARSIMONY_JSON_SORTED
#include "io/nlohmann.hpp"
