#include "models/attention/attention_units.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace espalier {
namespace {

using Numbers = std::vector<int64_t>;

Numbers joined(const Numbers& a, const Numbers& b) {  // both sorted
  Numbers all;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all));
  return all;
}

bool is_causal(const MaskGroup& group) {
  return group.rule == MaskRule::kCausal && group.length > 1;
}

// The unit goes on with this group, if they are a chain.
bool extend(AttentionUnit& unit, const std::vector<MaskGroup>& groups, int64_t number) {
  const MaskGroup& group = groups[static_cast<size_t>(number)];
  if (group.rule != MaskRule::kCausal ||
      groups[static_cast<size_t>(unit.groups.back())].rule != MaskRule::kCausal) {
    return false;
  }
  Numbers own = unit.groups;
  std::sort(own.begin(), own.end());
  Numbers before = unit.keys;
  if (!unit.is_causal) std::erase(before, unit.groups.front());
  if (group.sees != joined(before, own)) return false;
  unit.keys = before;
  unit.groups.push_back(number);
  unit.is_causal = true;
  return true;
}

}  // namespace

std::vector<AttentionUnit> make_attention_units(const std::vector<MaskGroup>& groups) {
  Numbers order(groups.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return groups[static_cast<size_t>(a)].first < groups[static_cast<size_t>(b)].first;
  });
  std::vector<AttentionUnit> units;
  for (const int64_t number : order) {
    const MaskGroup& group = groups[static_cast<size_t>(number)];
    if (!group.asks) continue;
    if (!units.empty() && extend(units.back(), groups, number)) continue;
    AttentionUnit unit{{number}, group.sees, is_causal(group)};
    if (group.rule != MaskRule::kNone && !unit.is_causal) unit.keys = joined(unit.keys, {number});
    units.push_back(std::move(unit));
  }
  return units;
}

int64_t tokens_of(const std::vector<MaskGroup>& groups, const Numbers& numbers) {
  int64_t sum = 0;
  for (const int64_t number : numbers) sum += groups[static_cast<size_t>(number)].length;
  return sum;
}

}  // namespace espalier
