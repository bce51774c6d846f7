#include "trainer/sequences.h"

#include <gtest/gtest.h>

#include <map>

#include "trainer/errors.h"
#include "trainer/update/task_schedule.h"

namespace espalier {
namespace {

std::vector<int64_t> numbers(const torch::Tensor& t) {
  return {t.data_ptr<int64_t>(), t.data_ptr<int64_t>() + t.numel()};
}

constexpr SequenceTokens kTokens{
    .end = 0, .caption = 1, .question = 2, .answer = 3, .draw = 4, .null = 5};

TEST(SequencePacker, ReadsAnImageThenPredictsTheAnswerAndTheEnd) {
  SequencePacker packer(kTokens, /*image_positions=*/2);
  packer.add_read({1}, {10, 11});
  const TokenRows rows = packer.rows();
  // begin, two positions, end, prompt, answer
  EXPECT_EQ(numbers(rows.text_ids), (std::vector<int64_t>{1, 10, 11}));
  EXPECT_EQ(numbers(rows.sources), (std::vector<int64_t>{0, 5, 6, 1, 2, 3, 4}));
  EXPECT_EQ(numbers(packer.target_rows()), (std::vector<int64_t>{4, 5, 6}));
  EXPECT_EQ(numbers(packer.targets()), (std::vector<int64_t>{10, 11, 0}));
  EXPECT_EQ(rows.layout.rows(), 7);
}

TEST(SequencePacker, PredictsEveryPositionOfADrawnImageFromTheRowBefore) {
  SequencePacker packer(kTokens, /*image_positions=*/3);
  packer.add_draw({10});
  packer.add_draw({11, 12});
  const TokenRows rows = packer.rows();
  EXPECT_EQ(numbers(rows.text_ids), (std::vector<int64_t>{4, 10, 4, 11, 12}));
  EXPECT_EQ(numbers(rows.sources), (std::vector<int64_t>{2, 3, 0, 7, 8, 4, 5, 6, 0, 9, 10}));
  EXPECT_EQ(numbers(rows.positions), (std::vector<int64_t>{0, 1, 0, 1}));
  EXPECT_EQ(numbers(packer.target_rows()), (std::vector<int64_t>{2, 3, 4, 8, 9, 10}));
  EXPECT_EQ(rows.layout.sequences(), 2);
}

TEST(TaskSchedule, GivesEveryTaskItsShareOfEveryPeriod) {
  const TaskSchedule schedule({1, 1, 2}, /*seed=*/3);
  std::map<int64_t, int64_t> count;
  for (int64_t slot = 0; slot < TaskSchedule::kPeriod; ++slot) ++count[schedule.at(slot).task];
  EXPECT_EQ(count, (std::map<int64_t, int64_t>{{0, 30}, {1, 30}, {2, 60}}));
}

TEST(TaskSchedule, KnowsHowOftenATaskCameBefore) {
  const TaskSchedule schedule({0.5, 0.2, 0.3}, /*seed=*/9);
  std::map<int64_t, int64_t> count;
  for (int64_t slot = 0; slot < 3 * TaskSchedule::kPeriod; ++slot) {
    const auto turn = schedule.at(slot);
    EXPECT_EQ(turn.earlier, count[turn.task]++);
  }
}

TEST(TaskSchedule, LeavesOutATaskOfNoWeightAndKeepsATinyOne) {
  const TaskSchedule schedule({0.0, 1e-6, 1.0}, /*seed=*/1);
  EXPECT_EQ(schedule.slots_per_period(), (std::vector<int64_t>{0, 1, 119}));
  EXPECT_THROW(TaskSchedule({0.0, 0.0}, 1), ConfigError);
}

}  // namespace
}  // namespace espalier
