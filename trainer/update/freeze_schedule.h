#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "comm/reduction/gradient_reducer.h"

namespace espalier {

// Steps of a stage in which parameters of some names stay as they are, as a config writes it:
// "trunk.*: 0-200" is steps 0 .. 199, "branch.generation.*: 500-" is from step 500 to the end.
struct FreezeSpan {
  std::string pattern;
  int64_t from = 0;
  int64_t to = std::numeric_limits<int64_t>::max();  // first step in which they train again

  bool covers(int64_t step) const { return from <= step && step < to; }
  bool operator==(const FreezeSpan&) const = default;
};

// ConfigError naming the key and the text for anything else, and for a span without steps.
std::vector<FreezeSpan> parse_freeze_spans(const std::vector<std::string>& texts,
                                           const std::string& key);

// Parameter groups cut so that each is frozen as a whole.
struct ScheduledGroups {
  std::vector<ParameterGroup> groups;
  std::vector<std::string> names;              // of parameters, in the order of the groups
  std::vector<std::vector<FreezeSpan>> spans;  // by group
  std::vector<std::vector<size_t>> became;     // by group before: those it was cut into
  std::vector<bool> used;                      // by span: whether it fits any parameter
};
// What no span fits keeps the group's name and place; what the same spans fit becomes a group
// behind it. `names` as in checkpoints, in the order of the groups.
ScheduledGroups cut_by_schedule(const std::vector<ParameterGroup>& groups,
                                const std::vector<std::string>& names,
                                const std::vector<FreezeSpan>& spans);

// "*embedding*: 0.1": a number above or equal to 0 for what fits. ConfigError as above.
struct PatternFactor {
  std::string pattern;
  double factor = 1.0;
};
std::vector<PatternFactor> parse_pattern_factors(const std::vector<std::string>& texts,
                                                 const std::string& key);

}  // namespace espalier
