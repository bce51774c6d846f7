#include "comm/collectives/schedule.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "collectives/simulated_ranks.h"

namespace espalier {
namespace {

using Floats = std::vector<float>;

std::byte* bytes_of(Floats& values) { return reinterpret_cast<std::byte*>(values.data()); }

// Worlds by the node of each rank: one machine, several, uneven ones, ranks dealt out in turn.
class Schedules : public testing::TestWithParam<std::vector<int>> {
 protected:
  std::vector<Schedule> all_reduces() {
    std::vector<Schedule> schedules;
    for (int rank = 0; rank < ranks.size(); ++rank) {
      schedules.push_back(all_reduce_schedule(ranks.topology(rank)));
    }
    return schedules;
  }

  // What each rank has after the sum of `inputs`.
  std::vector<Floats> sums(const std::vector<Floats>& inputs, unsigned seed) {
    std::vector<Floats> values = inputs;
    const auto schedules = all_reduces();
    std::vector<Layout> layouts;
    for (int rank = 0; rank < ranks.size(); ++rank) {
      layouts.push_back(divided_layout(bytes_of(values[rank]),
                                       static_cast<int64_t>(values[rank].size()), sizeof(float),
                                       schedules[rank], SimulatedRanks::kSlotBytes));
    }
    const auto add = combine::function_of(combine::Type::kFloat, combine::Op::kSum);
    EXPECT_TRUE(ranks.run(schedules, layouts, add, seed)) << "stuck";
    return values;
  }

  SimulatedRanks ranks{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Worlds, Schedules,
                         testing::Values(std::vector{0}, std::vector{0, 0}, std::vector{0, 0, 0},
                                         std::vector{0, 0, 0, 0, 0, 0, 0}, std::vector{0, 1},
                                         std::vector{0, 1, 2, 3, 4}, std::vector{0, 0, 1, 1},
                                         std::vector{0, 1, 0, 1}, std::vector{0, 0, 0, 1, 1, 1},
                                         std::vector{5, 5, 3, 3, 4, 4}, std::vector{0, 0, 0, 1},
                                         std::vector{0, 1, 1, 0, 2}));

TEST_P(Schedules, SumWhatEveryRankHas) {
  for (const int64_t elements : {0, 1, 7, 64, 1000, 30'011}) {
    std::vector<Floats> inputs(ranks.size(), Floats(elements));
    for (int rank = 0; rank < ranks.size(); ++rank) {
      for (int64_t i = 0; i < elements; ++i) inputs[rank][i] = static_cast<float>(i % 97 + rank);
    }
    const auto outputs = sums(inputs, /*seed=*/1);
    for (int64_t i = 0; i < elements; ++i) {
      float expected = 0;
      for (const Floats& input : inputs) expected += input[i];
      for (const Floats& output : outputs) ASSERT_EQ(output[i], expected) << i;
    }
  }
}

TEST_P(Schedules, GiveTheSameBitsOnAllRanksWhoeverComesFirst) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<Floats> inputs(ranks.size(), Floats(20'001));
  for (Floats& input : inputs) {
    for (float& value : input) value = normal(random);
  }
  const auto first = sums(inputs, /*seed=*/2);
  const auto second = sums(inputs, /*seed=*/3);
  for (int rank = 0; rank < ranks.size(); ++rank) {
    EXPECT_EQ(first[rank], first[0]);
    EXPECT_EQ(second[rank], first[0]);
  }
}

TEST_P(Schedules, GatherTheRowsOfAllRanks) {
  const int size = ranks.size();
  for (const int64_t row : {1, 999, 25'000}) {
    std::vector<Floats> outputs(size, Floats(row * size, -1));
    std::vector<Schedule> schedules;
    std::vector<Layout> layouts;
    for (int rank = 0; rank < size; ++rank) {
      std::fill_n(outputs[rank].begin() + rank * row, row, static_cast<float>(rank));
      schedules.push_back(all_gather_schedule(ranks.topology(rank)));
      layouts.push_back(row_layout(bytes_of(outputs[rank]), row * 4, schedules.back(),
                                   SimulatedRanks::kSlotBytes));
    }
    ASSERT_TRUE(ranks.run(schedules, layouts, nullptr, /*seed=*/4));
    for (const Floats& output : outputs) {
      for (int64_t i = 0; i < row * size; ++i) {
        ASSERT_EQ(output[i], static_cast<float>(i / row)) << i;
      }
    }
  }
}

TEST_P(Schedules, BroadcastFromAnyRank) {
  const int size = ranks.size();
  for (int root = 0; root < size; ++root) {
    std::vector<Floats> values(size, Floats(12'345));
    std::iota(values[root].begin(), values[root].end(), 1.0F);
    const Floats expected = values[root];
    std::vector<Schedule> schedules;
    std::vector<Layout> layouts;
    for (int rank = 0; rank < size; ++rank) {
      schedules.push_back(broadcast_schedule(ranks.topology(rank), root));
      layouts.push_back(divided_layout(bytes_of(values[rank]), 12'345 * 4, 1, schedules.back(),
                                       SimulatedRanks::kSlotBytes));
    }
    ASSERT_TRUE(ranks.run(schedules, layouts, nullptr, /*seed=*/5));
    for (const Floats& value : values) EXPECT_EQ(value, expected);
  }
}

TEST(HierarchicalSchedule, SendsThisRanksPartAloneAcrossMachines) {
  const Topology topology({0, 0, 0, 0, 1, 1, 1, 1}, /*rank=*/2);
  ASSERT_TRUE(topology.is_hierarchical());
  EXPECT_EQ(topology.ring(RingName::kAcross).ranks, (std::vector<int>{2, 6}));
  int on_machine = 0;
  int across = 0;
  const Schedule schedule = all_reduce_schedule(topology);
  for (const Hop& hop : schedule.hops) {
    (hop.ring == RingName::kAcross ? across : on_machine) += hop.send->count();
  }
  EXPECT_EQ(schedule.cells, 8);
  EXPECT_EQ(across, 2);       // 2 (m-1)/m of a quarter: 2 of 8 cells
  EXPECT_EQ(on_machine, 12);  // 2 (g-1)/g of all: 12 of 8 cells
}

TEST(Topology, IsFlatWhereMachinesHaveDifferentNumbersOfRanks) {
  const Topology topology({0, 1, 0}, /*rank=*/2);
  EXPECT_FALSE(topology.is_hierarchical());
  EXPECT_EQ(topology.ring(RingName::kWorld).ranks, (std::vector<int>{0, 2, 1}));
  EXPECT_TRUE(topology.shares_node_with(0));
  EXPECT_FALSE(topology.shares_node_with(1));
}

}  // namespace
}  // namespace espalier
