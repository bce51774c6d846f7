#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "models/attention/mask_description.h"

namespace espalier {

// A description that may be anything the words allow: kinds, sizes, timesteps, rules.
inline MaskDescription random_description(std::mt19937& random) {
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  constexpr GroupKind kKinds[] = {GroupKind::kCausal, GroupKind::kFull, GroupKind::kNoise,
                                  GroupKind::kQuery, GroupKind::kIsolated};
  MaskDescription description;
  description.timesteps = pick(1, 4);
  const int64_t groups = pick(1, 6);
  const int64_t leading = pick(0, 3) == 0 ? 1 : 0;
  for (int64_t g = 0; g < groups; ++g) {
    TokenGroup group;
    group.name = "group" + std::to_string(g);
    group.kind = kKinds[pick(0, 4)];
    group.tokens = pick(0, 4) == 0 ? pick(20, 40) : pick(0, 9);
    group.is_once = g < leading;
    description.groups.push_back(group);
  }
  description.groups.back().tokens += 1;
  for (TokenGroup& group : description.groups) {
    if (group.kind == GroupKind::kIsolated) continue;
    for (const TokenGroup& other : description.groups) {
      const bool is_hidden = other.kind == GroupKind::kNoise || other.kind == GroupKind::kIsolated;
      if ((is_hidden && other.name != group.name) || pick(0, 2) == 0) continue;
      SightRule rule{{other.name}, -kAlways, 0};
      if (pick(0, 3) == 0) rule.from = 0;
      if (pick(0, 5) == 0) rule.to = pick(-1, 1);
      if (rule.from > rule.to) rule.from = rule.to;
      group.sees.push_back(rule);
    }
    // Whatever else happens, every row sees something.
    if (group.kind == GroupKind::kQuery) group.sees.push_back({{group.name}, 0, 0});
  }
  return description;
}

}  // namespace espalier
