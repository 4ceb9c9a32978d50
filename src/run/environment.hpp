// The commit that the build recorded (commit.cpp.in).
#pragma once

namespace parsimony::detail {
extern const char* const commit;
}
