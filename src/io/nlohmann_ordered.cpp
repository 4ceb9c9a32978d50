#define PARSIMONY_JSON_INSTANTIATE
#define PARSIMONY_JSON_ORDERED
#include "io/nlohmann.hpp"
