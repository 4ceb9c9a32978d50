// As json.hpp of the library, for the test programs.
#include "precompiled/json.hpp"
#include "support/catch.hpp"
