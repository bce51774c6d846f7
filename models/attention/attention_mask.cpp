#include "models/attention/attention_mask.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

namespace espalier {
namespace {

constexpr size_t kGroupsPrinted = 16;

std::string to_string(const MaskGroup& group) {
  std::string text = group.rule == MaskRule::kCausal ? "causal " : "full ";
  text += std::to_string(group.first);
  if (group.length > 1 && group.stride != 1) {
    text += "," + std::to_string(group.first + group.stride);
  }
  if (group.length > 1) {
    text += ".." + std::to_string(group.first + (group.length - 1) * group.stride);
  }
  return text;
}

void check(const MaskGroup& group, int64_t rows) {
  TORCH_CHECK(group.length > 0, "an attention mask has an empty group at row ", group.first);
  const int64_t last = group.first + (group.length - 1) * group.stride;
  TORCH_CHECK(group.first >= 0 && group.stride > 0 && last < rows, "attention mask: group \"",
              to_string(group), "\" leaves the ", rows, " rows that the groups have tokens for");
}

}  // namespace

AttentionMask::AttentionMask(std::vector<MaskGroup> groups) {
  for (const MaskGroup& group : groups) {
    rows_ += group.length;
    longest_ = std::max(longest_, group.length);
    is_causal_ = is_causal_ && group.rule == MaskRule::kCausal;
  }
  // As many tokens as rows, inside the rows, none twice: then every row has its token.
  std::vector<bool> is_taken;
  for (const MaskGroup& group : groups) {
    check(group, rows_);
    is_taken.resize(static_cast<size_t>(rows_));
    for (int64_t t = 0; t < group.length; ++t) {
      const int64_t row = group.first + t * group.stride;
      TORCH_CHECK(!is_taken[static_cast<size_t>(row)], "attention mask: row ", row,
                  " is in two groups, the second is \"", to_string(group), "\"");
      is_taken[static_cast<size_t>(row)] = true;
    }
  }
  groups_ = std::make_shared<const std::vector<MaskGroup>>(std::move(groups));
}

AttentionMask AttentionMask::from_lengths(const std::vector<int64_t>& lengths, MaskRule rule) {
  std::vector<MaskGroup> groups;
  groups.reserve(lengths.size());
  int64_t first = 0;
  for (const int64_t length : lengths) {
    groups.push_back({first, 1, length, rule});
    first += length;
  }
  return AttentionMask(std::move(groups));
}

AttentionMask AttentionMask::position_major(int64_t count, int64_t length, MaskRule rule) {
  std::vector<MaskGroup> groups;
  groups.reserve(static_cast<size_t>(count));
  for (int64_t s = 0; s < count; ++s) groups.push_back({s, count, length, rule});
  return AttentionMask(std::move(groups));
}

std::string to_string(const AttentionMask& mask) {
  std::string text;
  for (size_t i = 0; i < mask.groups().size() && i < kGroupsPrinted; ++i) {
    text += (i == 0 ? "" : ", ") + to_string(mask.groups()[i]);
  }
  if (mask.groups().size() > kGroupsPrinted) {
    text += ", and " + std::to_string(mask.groups().size() - kGroupsPrinted) + " more";
  }
  return text.empty() ? "no rows" : text;
}

std::ostream& operator<<(std::ostream& out, const AttentionMask& mask) {
  return out << to_string(mask);
}

}  // namespace espalier
