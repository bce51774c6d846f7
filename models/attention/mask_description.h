#pragma once

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/attention/attention_mask.h"

namespace espalier {

// What the tokens of a group are to one another, and to other groups.
enum class GroupKind {
  kCausal,    // each sees itself and those before it
  kFull,      // each sees all
  kNoise,     // each sees all; no other group may see them (an image that is being denoised)
  kQuery,     // they see none of their own, not even themselves, unless a rule says so
  kIsolated,  // each sees all; nothing else is seen, and no other group may see them
};
std::string to_string(GroupKind kind);

constexpr int64_t kAlways = std::numeric_limits<int32_t>::max();

// One rule: all tokens of `groups`, at the row's own timestep plus `from` .. `to`. A group that is
// laid out once is seen whatever the timestep. What a group sees of itself at its own timestep is
// for its kind to say; only queries may be given that by a rule.
struct SightRule {
  std::vector<std::string> groups;
  int64_t from = 0;
  int64_t to = 0;
  int line = 0;  // of the file it was written in; 0 = none
};

struct TokenGroup {
  std::string name;
  GroupKind kind = GroupKind::kFull;
  int64_t tokens = 0;      // per timestep; 0 = the group is off, and may still be named
  bool is_once = false;    // laid out once, before or after all timesteps
  int64_t first_row = -1;  // where it lies, for descriptions that say so (a single timestep)
  std::vector<SightRule> sees = {};
  int line = 0;
};

// Who sees whom, as a person would say it: named groups in the order in which they lie in each
// timestep, each with a kind and with rules for what else it sees.
struct MaskDescription {
  int64_t timesteps = 1;
  std::vector<TokenGroup> groups;
};

// A description that means nothing: what() says which group and why; `line` where it stands, 0 when
// not known.
class MaskError : public std::runtime_error {
 public:
  MaskError(int at_line, const std::string& what) : std::runtime_error(what), line(at_line) {}
  int line;
};

// A group at one timestep, as it lies in the matrix. Those of no tokens have none.
struct PlacedGroup {
  int64_t group = 0;      // in the description
  int64_t timestep = -1;  // -1 = laid out once
  int64_t first = 0;      // row
  int64_t length = 0;     // rows

  bool operator==(const PlacedGroup&) const = default;
};

struct MaskLayout {
  AttentionMask mask;  // group g of it is placed[g]
  std::vector<PlacedGroup> placed;
};

// Lays the groups out and applies the rules. Throws MaskError: no groups, two of one name, a rule
// that names an unknown group, a group of kind noise or isolated that another sees, an isolated
// group with rules, a group that sees nothing at some timestep, rows given twice or left out.
MaskLayout lay_out(const MaskDescription& description);

// Does a token see another, by the words of the description alone: place of a row among its group's
// tokens at its timestep. For tests and pictures; lay_out() does not use it.
bool sees(const MaskDescription& description, const PlacedGroup& asks, int64_t asking_token,
          const PlacedGroup& seen, int64_t seen_token);

}  // namespace espalier
