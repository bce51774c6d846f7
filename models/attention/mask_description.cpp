#include "models/attention/mask_description.h"

#include <algorithm>
#include <map>

namespace espalier {
namespace {

std::string quoted(const std::string& name) { return "group \"" + name + "\""; }

MaskRule rule_of(GroupKind kind) {
  switch (kind) {
    case GroupKind::kCausal:
      return MaskRule::kCausal;
    case GroupKind::kQuery:
      return MaskRule::kNone;
    case GroupKind::kFull:
    case GroupKind::kNoise:
    case GroupKind::kIsolated:
      return MaskRule::kFull;
  }
  return MaskRule::kFull;
}

bool is_hidden(GroupKind kind) { return kind == GroupKind::kNoise || kind == GroupKind::kIsolated; }

using GroupNumbers = std::map<std::string, int64_t>;

GroupNumbers numbers_of(const MaskDescription& description) {
  if (description.groups.empty()) throw MaskError(0, "a mask needs at least one group");
  if (description.timesteps < 1) {
    throw MaskError(
        0, "a mask has at least one timestep, got " + std::to_string(description.timesteps));
  }
  GroupNumbers numbers;
  for (size_t i = 0; i < description.groups.size(); ++i) {
    const TokenGroup& group = description.groups[i];
    if (!numbers.emplace(group.name, static_cast<int64_t>(i)).second) {
      throw MaskError(group.line, quoted(group.name) + " is there twice");
    }
    if (group.tokens < 0) {
      throw MaskError(group.line, quoted(group.name) + " has " + std::to_string(group.tokens) +
                                      " tokens; 0 turns a group off");
    }
  }
  return numbers;
}

void check_rules(const MaskDescription& description, const GroupNumbers& numbers) {
  std::string known;
  for (const auto& group : description.groups) known += (known.empty() ? "" : ", ") + group.name;
  for (const TokenGroup& group : description.groups) {
    for (const SightRule& rule : group.sees) {
      const int line = rule.line != 0 ? rule.line : group.line;
      if (group.kind == GroupKind::kIsolated) {
        throw MaskError(line, quoted(group.name) + " is isolated and sees no other group");
      }
      for (const std::string& name : rule.groups) {
        const auto found = numbers.find(name);
        if (found == numbers.end()) {
          throw MaskError(line, quoted(group.name) + " sees \"" + name +
                                    "\", and there is no group of that name; groups: " + known);
        }
        const TokenGroup& seen = description.groups[static_cast<size_t>(found->second)];
        if (is_hidden(seen.kind) && name != group.name) {
          throw MaskError(line, quoted(group.name) + " sees \"" + name + "\", which is of kind " +
                                    to_string(seen.kind) + ": no other group may see it");
        }
      }
    }
  }
}

// Leading groups that are laid out once, then timestep after timestep, then trailing ones.
std::vector<PlacedGroup> in_time(const MaskDescription& description) {
  const auto& groups = description.groups;
  const auto is_step = [](const TokenGroup& group) { return !group.is_once; };
  const auto begin = std::find_if(groups.begin(), groups.end(), is_step);
  const auto end = std::find_if(groups.rbegin(), groups.rend(), is_step).base();
  std::vector<PlacedGroup> placed;
  int64_t row = 0;
  const auto place = [&](auto group, int64_t timestep) {
    if (group->tokens == 0) return;
    placed.push_back({group - groups.begin(), timestep, row, group->tokens});
    row += group->tokens;
  };
  for (auto group = groups.begin(); group < begin; ++group) place(group, -1);
  for (int64_t step = 0; step < (begin < end ? description.timesteps : 0); ++step) {
    for (auto group = begin; group < end; ++group) {
      if (group->is_once) {
        throw MaskError(group->line, quoted(group->name) +
                                         " is laid out once, and so stands before or after all "
                                         "groups that each timestep has, not between them");
      }
      place(group, step);
    }
  }
  for (auto group = std::max(begin, end); group < groups.end(); ++group) place(group, -1);
  return placed;
}

// Where the groups say it themselves: every row once.
std::vector<PlacedGroup> in_rows(const MaskDescription& description) {
  std::vector<PlacedGroup> placed;
  for (size_t i = 0; i < description.groups.size(); ++i) {
    const TokenGroup& group = description.groups[i];
    if (group.first_row < 0 || description.timesteps != 1) {
      throw MaskError(group.line, quoted(group.name) +
                                      ": rows are given for all groups of a mask of one timestep, "
                                      "or for none");
    }
    if (group.tokens == 0) continue;
    placed.push_back({static_cast<int64_t>(i), 0, group.first_row, group.tokens});
  }
  std::sort(placed.begin(), placed.end(),
            [](const PlacedGroup& a, const PlacedGroup& b) { return a.first < b.first; });
  int64_t row = 0;
  for (size_t i = 0; i < placed.size(); ++i) {
    const TokenGroup& group = description.groups[static_cast<size_t>(placed[i].group)];
    const std::string rows = std::to_string(placed[i].first) + ".." +
                             std::to_string(placed[i].first + placed[i].length - 1);
    if (placed[i].first < row) {
      const auto& other = description.groups[static_cast<size_t>(placed[i - 1].group)];
      throw MaskError(group.line, quoted(group.name) + " has rows " + rows + ", which overlap " +
                                      quoted(other.name) + " on line " +
                                      std::to_string(other.line));
    }
    if (placed[i].first > row) {
      throw MaskError(group.line, quoted(group.name) + " has rows " + rows + ": nobody has row " +
                                      std::to_string(row));
    }
    row += placed[i].length;
  }
  return placed;
}

bool is_in_time(const SightRule& rule, const PlacedGroup& asks, const PlacedGroup& seen) {
  if (asks.timestep < 0 || seen.timestep < 0) return true;
  const int64_t distance = seen.timestep - asks.timestep;
  return distance >= rule.from && distance <= rule.to;
}

bool does_name(const SightRule& rule, const std::string& name) {
  return std::find(rule.groups.begin(), rule.groups.end(), name) != rule.groups.end();
}

MaskGroup table_row(const MaskDescription& description, const std::vector<PlacedGroup>& placed,
                    const PlacedGroup& mine) {
  const TokenGroup& group = description.groups[static_cast<size_t>(mine.group)];
  MaskGroup row{.first = mine.first, .length = mine.length, .rule = rule_of(group.kind)};
  for (size_t g = 0; g < placed.size(); ++g) {
    const std::string& name = description.groups[static_cast<size_t>(placed[g].group)].name;
    const bool is_seen =
        std::any_of(group.sees.begin(), group.sees.end(), [&](const SightRule& rule) {
          return does_name(rule, name) && is_in_time(rule, mine, placed[g]);
        });
    if (!is_seen) continue;
    if (placed[g] == mine) {
      if (group.kind == GroupKind::kQuery) row.rule = MaskRule::kFull;
    } else {
      row.sees.push_back(static_cast<int64_t>(g));
    }
  }
  if (row.rule == MaskRule::kNone && row.sees.empty()) {
    throw MaskError(group.line,
                    quoted(group.name) + " sees nothing" +
                        (mine.timestep < 0 ? "" : " at timestep " + std::to_string(mine.timestep)) +
                        ": every token has to see something; give it a group to see, or a kind "
                        "that sees itself");
  }
  return row;
}

}  // namespace

std::string to_string(GroupKind kind) {
  switch (kind) {
    case GroupKind::kCausal:
      return "causal";
    case GroupKind::kFull:
      return "full";
    case GroupKind::kNoise:
      return "noise";
    case GroupKind::kQuery:
      return "query";
    case GroupKind::kIsolated:
      return "isolated";
  }
  return "";
}

MaskLayout lay_out(const MaskDescription& description) {
  check_rules(description, numbers_of(description));
  const bool has_rows = std::any_of(description.groups.begin(), description.groups.end(),
                                    [](const TokenGroup& group) { return group.first_row >= 0; });
  MaskLayout layout;
  layout.placed = has_rows ? in_rows(description) : in_time(description);
  if (layout.placed.empty()) throw MaskError(0, "every group of the mask has 0 tokens");
  std::vector<MaskGroup> table;
  for (const PlacedGroup& mine : layout.placed) {
    table.push_back(table_row(description, layout.placed, mine));
    table.back().position = mine.first;
  }
  layout.mask = AttentionMask(std::move(table));
  return layout;
}

bool sees(const MaskDescription& description, const PlacedGroup& asks, int64_t asking_token,
          const PlacedGroup& seen, int64_t seen_token) {
  const TokenGroup& group = description.groups[static_cast<size_t>(asks.group)];
  const std::string& name = description.groups[static_cast<size_t>(seen.group)].name;
  const bool is_own = asks == seen;
  if (is_own && group.kind == GroupKind::kCausal) return seen_token <= asking_token;
  if (is_own && group.kind != GroupKind::kQuery) return true;
  return std::any_of(group.sees.begin(), group.sees.end(), [&](const SightRule& rule) {
    return does_name(rule, name) && is_in_time(rule, asks, seen);
  });
}

}  // namespace espalier
