#include "trainer/update/step_plan.h"

#include <map>
#include <numeric>

#include <gtest/gtest.h>

namespace espalier {
namespace {

std::map<int64_t, int64_t> slots_of_step(const StepPlan& plan, int64_t step) {
  std::map<int64_t, int64_t> count;
  for (int64_t slot = 0; slot < plan.slots(); ++slot) {
    for (const Turn& turn : plan.turns(step, slot)) ++count[turn.objective];
  }
  return count;
}

TEST(StepPlan, EveryStepHoldsEveryObjectiveByItsShareWhereSharesDivideTheSlots) {
  const StepPlan plan({2, 1, 3}, /*slots_per_step=*/6, /*samples_per_slot=*/8);
  for (int64_t step = 0; step < 100; ++step) {
    EXPECT_EQ(slots_of_step(plan, step), (std::map<int64_t, int64_t>{{0, 2}, {1, 1}, {2, 3}}));
  }
}

TEST(StepPlan, StepsDifferByOneSlotAtMostAndPeriodsNotAtAll) {
  const StepPlan plan({0.5, 0.2, 0.3}, 4, 1);
  std::map<int64_t, int64_t> total;
  for (int64_t step = 0; step < StepPlan::kPeriod / 4; ++step) {
    for (const auto& [objective, slots] : slots_of_step(plan, step)) {
      const double expected = plan.expected_slots(objective);
      EXPECT_LE(std::abs(static_cast<double>(slots) - expected), 1.0 + 1e-9);
      total[objective] += slots;
    }
  }
  EXPECT_EQ(total, (std::map<int64_t, int64_t>{{0, 60}, {1, 24}, {2, 36}}));
}

TEST(StepPlan, KnowsHowManyTurnsCameBeforeEachTurn) {
  const StepPlan plan({0.5, 0.2, 0.0, 0.3}, 7, 3);
  std::map<int64_t, int64_t> count;
  for (int64_t step = 0; step < 60; ++step) {
    std::map<int64_t, int64_t> here;
    for (int64_t slot = 0; slot < 7; ++slot) {
      for (const Turn& turn : plan.turns(step, slot)) {
        EXPECT_EQ(turn.earlier, count[turn.objective]++);
        EXPECT_EQ(turn.of_step, here[turn.objective]++);
        EXPECT_EQ(turn.first_sample(), turn.earlier * 3);
        EXPECT_EQ(turn.slot_number, step * 7 + slot);
      }
    }
    for (const auto& [objective, turns] : here) EXPECT_EQ(plan.slots_in(objective, step), turns);
  }
}

TEST(StepPlan, AnObjectiveWithoutAShareTakesPartInEverySlotBesideTheOthers) {
  const StepPlan plan({1, 0, 1}, 4, 1);
  for (int64_t slot = 0; slot < 4; ++slot) {
    const std::vector<Turn> turns = plan.turns(5, slot);
    ASSERT_EQ(turns.size(), 2U);
    EXPECT_EQ(turns[0].objective == 1 ? turns[1].in_step : turns[0].in_step, 2);
    EXPECT_EQ(turns[0].objective == 1 ? turns[0].earlier : turns[1].earlier, 20 + slot);
  }
}

TEST(StepPlan, ATinyShareGetsOneSlotOfAPeriodAndTheStepsKnowWhoRuns) {
  const StepPlan plan({1e-6, 1.0}, 1, 1);
  int64_t turns = 0;
  for (int64_t step = 0; step < StepPlan::kPeriod; ++step) {
    const bool runs = plan.runs_in(step)[0];
    EXPECT_EQ(runs, plan.slots_in(0, step) == 1);
    turns += runs;
  }
  EXPECT_EQ(turns, 1);
}

}  // namespace
}  // namespace espalier
