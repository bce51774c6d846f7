#include "comm/reduction/gradient_reducer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "gradient_reducer_checks.h"
#include "recording_communicator.h"

namespace espalier {
namespace {

at::Tensor weight(int64_t elements) { return at::ones({elements}).requires_grad_(); }

class GradientReducerRanks : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, GradientReducerRanks, testing::Values(1, 2, 3, 4));

TEST_P(GradientReducerRanks, SumDifferentTasksIntoTheGradientsOfTheUnion) {
  run_ranks(GetParam(), [](Communicator& communicator) {
    check_gradients_equal_the_union_of_batches(communicator, /*slots=*/communicator.size());
  });
}

TEST_P(GradientReducerRanks, AccumulateSeveralMicroBatches) {
  run_ranks(GetParam(), [](Communicator& communicator) {
    check_gradients_equal_the_union_of_batches(communicator, /*slots=*/12);
  });
}

TEST_P(GradientReducerRanks, GoOnWhenARankHasNothingToDo) {
  run_ranks(GetParam(), [](Communicator& communicator) {
    check_gradients_equal_the_union_of_batches(communicator, /*slots=*/3);
  });
}

TEST_P(GradientReducerRanks, SendBucketsDuringBackward) {
  run_ranks(GetParam(), check_buckets_travel_during_backward);
}

struct Fixture {
  std::unique_ptr<Communicator> single = make_single_communicator();
  RecordingCommunicator communicator{*single};
};

TEST(GradientReducer, SendsLastGroupFirstWhateverGradientComesFirst) {
  Fixture f;
  const at::Tensor trunk = weight(16);
  const at::Tensor branch = weight(32);
  GradientReducer reducer(f.communicator, {{"trunk", {trunk}}, {"branch", {branch}}});

  reducer.start_step({true, true});
  reducer.expect_last_backward({true, true});
  trunk.sum().backward();
  EXPECT_TRUE(f.communicator.elements.empty());
  reducer.finish();

  EXPECT_EQ(f.communicator.elements, (std::vector<int64_t>{32, 16}));
}

TEST(GradientReducer, DoesNotReduceInactiveGroups) {
  Fixture f;
  const at::Tensor trunk = weight(16);
  const at::Tensor branch = weight(32);
  GradientReducer reducer(f.communicator, {{"trunk", {trunk}}, {"branch", {branch}}});

  reducer.start_step({true, false});
  reducer.expect_last_backward({true, false});
  trunk.sum().backward();
  reducer.finish();

  EXPECT_EQ(f.communicator.elements, (std::vector<int64_t>{16}));
  EXPECT_FALSE(branch.grad().defined());
}

TEST(GradientReducer, CutsGroupsIntoBucketsFromTheBack) {
  Fixture f;
  std::vector<at::Tensor> parameters = {weight(64), weight(16), weight(16), weight(100)};
  GradientReducer reducer(f.communicator, {{"all", parameters}}, {.bucket_bytes = 256});

  reducer.start_step({true});
  reducer.finish();

  EXPECT_EQ(f.communicator.elements, (std::vector<int64_t>{112, 32, 64}));  // 100 padded to lines
}

TEST(GradientReducer, KeepsTypesApart) {
  Fixture f;
  const at::Tensor half = at::ones({8}, at::kBFloat16).requires_grad_();
  GradientReducer reducer(f.communicator, {{"all", {weight(16), half}}});

  reducer.start_step({true});
  half.sum().backward();
  reducer.finish();

  EXPECT_EQ(f.communicator.elements, (std::vector<int64_t>{32, 16}));
  EXPECT_TRUE(half.grad().eq(1).all().item<bool>());
}

TEST(GradientReducer, ZeroesGradientsAndRestoresViewsThatWereDropped) {
  Fixture f;
  const at::Tensor parameter = weight(4);
  GradientReducer reducer(f.communicator, {{"all", {parameter}}});
  for (int step = 0; step < 2; ++step) {
    reducer.start_step({true});
    (parameter * 3).sum().backward();
    reducer.finish();
    EXPECT_TRUE(parameter.grad().eq(3).all().item<bool>());
    parameter.mutable_grad().reset();
  }
}

TEST(GradientReducer, RefusesAGradientOfAnInactiveGroup) {
  Fixture f;
  const at::Tensor trunk = weight(4);
  const at::Tensor branch = weight(4);
  GradientReducer reducer(f.communicator, {{"trunk", {trunk}}, {"branch", {branch}}});
  reducer.start_step({true, false});
  EXPECT_THROW(branch.sum().backward(), c10::Error);
}

TEST(GradientReducer, RefusesAGradientAfterItsBucketLeft) {
  Fixture f;
  const at::Tensor parameter = weight(4);
  GradientReducer reducer(f.communicator, {{"all", {parameter}}});
  reducer.start_step({true});
  reducer.expect_last_backward({true});
  parameter.sum().backward();
  EXPECT_THROW(parameter.sum().backward(), c10::Error);
}

TEST(GradientReducer, RefusesGroupsItCannotReduce) {
  Fixture f;
  const at::Tensor parameter = weight(4);
  using Groups = std::vector<ParameterGroup>;
  EXPECT_THROW(GradientReducer(f.communicator, Groups{{"a", {parameter}}, {"b", {parameter}}}),
               c10::Error);
  EXPECT_THROW(GradientReducer(f.communicator, Groups{{"frozen", {at::ones({4})}}}), c10::Error);
}

TEST(GradientReducer, RefusesCallsOutOfOrder) {
  Fixture f;
  GradientReducer reducer(f.communicator, {{"all", {weight(4)}}});
  EXPECT_THROW(reducer.finish(), c10::Error);
  EXPECT_THROW(reducer.expect_last_backward({true}), c10::Error);
  EXPECT_THROW(reducer.start_step({true, true}), c10::Error);
  reducer.start_step({true});
  EXPECT_THROW(reducer.start_step({true}), c10::Error);
}

TEST(GradientReducer, LeavesParametersFreeWhenItEnds) {
  Fixture f;
  const at::Tensor parameter = weight(4);
  { GradientReducer reducer(f.communicator, {{"all", {parameter}}}); }
  parameter.sum().backward();
  EXPECT_TRUE(parameter.grad().eq(1).all().item<bool>());
}

}  // namespace
}  // namespace espalier
