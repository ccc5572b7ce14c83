// The least a C++ test needs: EXPECT prints what failed and where, and the program exits with 1.
#pragma once

#include <cstdio>

namespace dlaccel {
inline int& failures() {
  static int count = 0;
  return count;
}
}  // namespace dlaccel

#define EXPECT(condition)                                                  \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      ++::dlaccel::failures();                                             \
    }                                                                      \
  } while (0)
