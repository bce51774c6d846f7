#include "trainer/named/sample_fields.h"

#include <algorithm>

#include "trainer/errors.h"

namespace espalier {

std::vector<std::string> field_texts(const Sample& sample, const std::string& field,
                                     const std::string& asked_by) {
  if (field == "caption") return {sample.caption};
  if (field == "group") return {sample.group};
  if (field == "subgroup") return {sample.subgroup};
  if (field == "keywords") return sample.keywords;
  throw ConfigError(asked_by + ": samples have no field \"" + field +
                    "\"; they have caption, group, subgroup, keywords");
}

std::vector<int64_t> spread_indices(int64_t count, int64_t size) {
  const int64_t n = count == 0 ? size : std::min(count, size);
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < n; ++i) indices.push_back(i * size / n);
  return indices;
}

}  // namespace espalier
