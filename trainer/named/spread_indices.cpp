#include "trainer/named/spread_indices.h"

#include <algorithm>

namespace espalier {

std::vector<int64_t> spread_indices(int64_t count, int64_t size) {
  const int64_t n = count == 0 ? size : std::min(count, size);
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < n; ++i) indices.push_back(i * size / n);
  return indices;
}

}  // namespace espalier
