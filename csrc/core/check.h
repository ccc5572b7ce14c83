// Preconditions of memory safety. Users meet the fuller sentences of the Python side first.
#pragma once

#include <stdexcept>
#include <string>

namespace dlaccel {

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

}  // namespace dlaccel
