#include "comm/collectives/topology.h"

#include <algorithm>

namespace espalier {
namespace {

// The ranks of each node, nodes in the order of their first rank.
std::vector<std::vector<int>> nodes_of(const std::vector<int>& node_of_rank) {
  std::vector<int> names;
  std::vector<std::vector<int>> nodes;
  for (int rank = 0; rank < static_cast<int>(node_of_rank.size()); ++rank) {
    const auto known = std::find(names.begin(), names.end(), node_of_rank[rank]);
    const auto index = static_cast<size_t>(known - names.begin());
    if (known == names.end()) {
      names.push_back(node_of_rank[rank]);
      nodes.emplace_back();
    }
    nodes[index].push_back(rank);
  }
  return nodes;
}

Ring ring_of(std::vector<int> ranks, int rank) {
  const auto index = std::find(ranks.begin(), ranks.end(), rank) - ranks.begin();
  return {std::move(ranks), static_cast<int>(index)};
}

}  // namespace

Topology::Topology(const std::vector<int>& node_of_rank, int rank)
    : node_of_rank_(node_of_rank), rank_(rank) {
  const auto nodes = nodes_of(node_of_rank);
  const size_t per_node = nodes.front().size();
  std::vector<int> world;
  std::vector<int> mine;
  for (const auto& node : nodes) {
    world.insert(world.end(), node.begin(), node.end());
    if (shares_node_with(node.front())) mine = node;
  }
  const bool is_even = std::all_of(nodes.begin(), nodes.end(),
                                   [&](const auto& node) { return node.size() == per_node; });
  const Ring in_node = ring_of(mine, rank);
  std::vector<int> across = {rank};
  const bool has_levels = is_even && nodes.size() > 1 && per_node > 1;
  if (has_levels) {
    across.clear();
    for (const auto& node : nodes) across.push_back(node[in_node.index]);
  }
  rings_[static_cast<size_t>(RingName::kWorld)] = ring_of(world, rank);
  rings_[static_cast<size_t>(RingName::kNode)] = has_levels ? in_node : Ring{{rank}, 0};
  rings_[static_cast<size_t>(RingName::kAcross)] = ring_of(across, rank);
}

int Topology::ranks_on_node() const {
  return static_cast<int>(
      std::count(node_of_rank_.begin(), node_of_rank_.end(), node_of_rank_[rank_]));
}

}  // namespace espalier
