#include "models/attention/kernel_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "models/attention/attention_units.h"

namespace espalier {
namespace {

using Numbers = std::vector<int64_t>;
using kernels::AttentionComponent;
using kernels::KeyRange;

// By group, a number for the set of groups it has to do with.
Numbers component_of_groups(const std::vector<MaskGroup>& groups) {
  Numbers parent(groups.size());
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](int64_t g) {
    while (parent[static_cast<size_t>(g)] != g) {
      int64_t& up = parent[static_cast<size_t>(g)];
      up = parent[static_cast<size_t>(up)];
      g = up;
    }
    return g;
  };
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const int64_t seen : groups[g].sees) {
      parent[static_cast<size_t>(root(seen))] = root(static_cast<int64_t>(g));
    }
  }
  Numbers components(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) components[g] = root(static_cast<int64_t>(g));
  return components;
}

// Groups whose places must follow each other, because they ask as one causal square; or one group.
using Atom = Numbers;

// What one component is built from.
struct Members {
  std::vector<Atom> atoms;
  std::vector<const AttentionUnit*> units;
};

class ComponentBuilder {
 public:
  // `query_of_row` numbers the rows that ask. `place` and `seen_by` are scratch by group.
  ComponentBuilder(const std::vector<MaskGroup>& groups, const Numbers& query_of_row,
                   Numbers& place, Numbers& seen_by)
      : groups_(groups), query_of_row_(query_of_row), place_(place), seen_by_(seen_by) {}

  AttentionComponent build(Members members) {
    for (const AttentionUnit* unit : members.units) classes_[unit->keys].push_back(unit);
    order_keys(std::move(members.atoms));
    for (const auto& [keys, units] : classes_) add_class(keys, units);
    for (const kernels::QueryBlock& block : component_.blocks) {
      int64_t columns = 0;
      for (int32_t i = 0; i < block.ranges; ++i) {
        const KeyRange& range = component_.ranges[static_cast<size_t>(block.first_range + i)];
        columns += simd::round_up(range.count, simd::kLanes);
      }
      component_.widest = std::max(component_.widest, columns);
    }
    return std::move(component_);
  }

 private:
  const MaskGroup& group(int64_t number) const { return groups_[static_cast<size_t>(number)]; }
  int64_t& place(int64_t number) { return place_[static_cast<size_t>(number)]; }

  // What most queries see comes first, so that what a block sees is few ranges. Ranges begin at
  // multiples of a vector; a range begins where some class sees a group and not the one before it.
  void order_keys(std::vector<Atom> atoms) {
    for (const auto& [keys, units] : classes_) {
      int64_t queries = 0;
      for (const AttentionUnit* unit : units) queries += tokens_of(groups_, unit->groups);
      for (const int64_t key : keys) seen_by_[static_cast<size_t>(key)] += queries;
    }
    std::stable_sort(atoms.begin(), atoms.end(), [&](const Atom& a, const Atom& b) {
      const auto rank = [&](const Atom& atom) {
        return std::pair(-seen_by_[static_cast<size_t>(atom.front())], group(atom.front()).first);
      };
      return rank(a) < rank(b);
    });
    for (const Atom& atom : atoms) order_.insert(order_.end(), atom.begin(), atom.end());
    mark_starts();
    for (size_t i = 0; i < order_.size(); ++i) {
      auto& rows = component_.key_rows;
      if (is_start_[i]) rows.resize(simd::round_up(std::ssize(rows), simd::kLanes), -1);
      place(order_[i]) = std::ssize(rows);
      for (const int64_t row : rows_of(group(order_[i]))) rows.push_back(static_cast<int32_t>(row));
    }
    component_.key_rows.resize(simd::round_up(std::ssize(component_.key_rows), simd::kLanes), -1);
  }

  void mark_starts() {
    is_start_.assign(order_.size(), false);
    for (const auto& [keys, units] : classes_) {
      for (const AttentionUnit* unit : units) {
        if (!unit->is_causal) continue;
        const auto at = std::find(order_.begin(), order_.end(), unit->groups.front());
        is_start_[static_cast<size_t>(at - order_.begin())] = true;
      }
    }
    for (const auto& [keys, units] : classes_) {
      bool was_seen = false;
      for (size_t i = 0; i < order_.size(); ++i) {
        const bool is_seen = std::binary_search(keys.begin(), keys.end(), order_[i]);
        if (is_seen && !was_seen) is_start_[i] = true;
        was_seen = is_seen;
      }
    }
  }

  std::vector<KeyRange> ranges_of(const Numbers& keys) {
    std::vector<KeyRange> ranges;
    for (const int64_t number : order_) {
      if (!std::binary_search(keys.begin(), keys.end(), number)) continue;
      const auto first = static_cast<int32_t>(place(number));
      const auto count = static_cast<int32_t>(group(number).length);
      if (!ranges.empty() && ranges.back().first + ranges.back().count == first) {
        ranges.back().count += count;
      } else {
        ranges.push_back({first, count});
      }
    }
    return ranges;
  }

  void add_queries(const AttentionUnit& unit) {
    for (const int64_t number : unit.groups) {
      for (const int64_t row : rows_of(group(number))) {
        component_.query_rows.push_back(static_cast<int32_t>(row));
        component_.queries.push_back(static_cast<int32_t>(query_of_row_[static_cast<size_t>(row)]));
      }
    }
  }

  // Blocks of the queries from `first` on; `unit` when they are a causal square.
  void add_blocks(int64_t first, const std::vector<KeyRange>& ranges, const AttentionUnit* unit) {
    auto& all = component_.ranges;
    const auto end = std::ssize(component_.queries);
    const auto shared = static_cast<int32_t>(all.size());
    if (unit == nullptr) all.insert(all.end(), ranges.begin(), ranges.end());
    for (int64_t at = first; at < end; at += kernels::kQueryBlock) {
      kernels::QueryBlock block{static_cast<int32_t>(at),
                                static_cast<int32_t>(std::min(kernels::kQueryBlock, end - at)),
                                shared, static_cast<int32_t>(ranges.size()), -1};
      if (unit != nullptr) {
        block.first_range = static_cast<int32_t>(all.size());
        block.ranges += 1;
        block.causal_offset = static_cast<int32_t>(at - first);
        all.insert(all.end(), ranges.begin(), ranges.end());
        all.push_back(
            {static_cast<int32_t>(place(unit->groups.front())), block.causal_offset + block.count});
      }
      component_.blocks.push_back(block);
    }
  }

  void add_class(const Numbers& keys, const std::vector<const AttentionUnit*>& units) {
    const std::vector<KeyRange> ranges = ranges_of(keys);
    const auto first = std::ssize(component_.queries);
    for (const AttentionUnit* unit : units) {
      if (!unit->is_causal) add_queries(*unit);
    }
    if (std::ssize(component_.queries) > first) add_blocks(first, ranges, nullptr);
    for (const AttentionUnit* unit : units) {
      if (!unit->is_causal) continue;
      const auto start = std::ssize(component_.queries);
      add_queries(*unit);
      add_blocks(start, ranges, unit);
    }
  }

  const std::vector<MaskGroup>& groups_;
  const Numbers& query_of_row_;
  Numbers& place_;
  Numbers& seen_by_;
  std::map<Numbers, std::vector<const AttentionUnit*>> classes_;
  Numbers order_;  // groups, as their keys lie
  std::vector<bool> is_start_;
  AttentionComponent component_;
};

// Does somebody see a part of the chain that is not its beginning? Then a range would have to begin
// within it.
bool is_cut(const AttentionUnit& chain, const std::vector<AttentionUnit>& units) {
  return std::any_of(units.begin(), units.end(), [&](const AttentionUnit& unit) {
    bool was_seen = true;
    for (const int64_t number : chain.groups) {
      const bool is_seen = std::binary_search(unit.keys.begin(), unit.keys.end(), number);
      if (is_seen && !was_seen) return true;
      was_seen = is_seen;
    }
    return false;
  });
}

// Units of which no chain is cut: those that were are taken apart again.
std::vector<AttentionUnit> make_units(const std::vector<MaskGroup>& groups) {
  const std::vector<AttentionUnit> all = make_attention_units(groups);
  std::vector<AttentionUnit> units;
  for (const AttentionUnit& unit : all) {
    if (unit.groups.size() == 1 || !is_cut(unit, all)) {
      units.push_back(unit);
      continue;
    }
    for (const int64_t number : unit.groups) {
      const MaskGroup& group = groups[static_cast<size_t>(number)];
      AttentionUnit one{{number}, group.sees, group.length > 1};
      if (!one.is_causal) {
        one.keys.insert(std::upper_bound(one.keys.begin(), one.keys.end(), number), number);
      }
      units.push_back(std::move(one));
    }
  }
  return units;
}

// By row, its number among the rows that ask; -1 for others.
Numbers number_queries(const std::vector<MaskGroup>& groups, size_t rows) {
  Numbers query_of_row(rows, -1);
  for (const MaskGroup& group : groups) {
    if (!group.asks) continue;
    for (const int64_t row : rows_of(group)) query_of_row[static_cast<size_t>(row)] = 0;
  }
  int64_t queries = 0;
  for (int64_t& query : query_of_row) {
    if (query == 0) query = queries++;
  }
  return query_of_row;
}

}  // namespace

KernelPlan make_kernel_plan(const std::vector<MaskGroup>& groups) {
  KernelPlan plan;
  plan.positions = positions_of_rows(groups);
  const Numbers query_of_row = number_queries(groups, plan.positions.size());
  const std::vector<AttentionUnit> units = make_units(groups);
  const Numbers component = component_of_groups(groups);
  std::map<int64_t, Members> members;
  std::vector<bool> has_atom(groups.size());
  for (const AttentionUnit& unit : units) {
    Members& mine = members[component[static_cast<size_t>(unit.groups.front())]];
    mine.units.push_back(&unit);
    if (!unit.is_causal) continue;
    mine.atoms.push_back(unit.groups);
    for (const int64_t number : unit.groups) has_atom[static_cast<size_t>(number)] = true;
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    if (!has_atom[g]) members[component[g]].atoms.push_back({static_cast<int64_t>(g)});
  }
  Numbers place(groups.size());
  Numbers seen_by(groups.size());
  for (auto& [number, mine] : members) {
    if (mine.units.empty()) continue;  // rows that nobody asks about
    plan.components.push_back(
        ComponentBuilder(groups, query_of_row, place, seen_by).build(std::move(mine)));
  }
  return plan;
}

}  // namespace espalier
