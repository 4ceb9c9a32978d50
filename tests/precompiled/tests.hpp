// As standard.hpp, for the test programs.
#include "precompiled/standard.hpp"
#include "support/catch.hpp"
