#include "models/world_model/action_diffusion.h"

#include <gtest/gtest.h>

#include "tests/models/close.h"
#include "tests/models/finite_differences.h"
#include "tests/models/world_model/golden.h"

namespace espalier {
namespace {

constexpr int64_t kBatch = 5;
constexpr int64_t kChunk = 3;
constexpr int64_t kWidth = 32;
constexpr int64_t kActions = 7;

ActionDiffusionOptions small_options(DiffusionTarget target = DiffusionTarget::kEpsilon) {
  return {.transformer = {.condition_width = kWidth,
                          .action_width = kActions,
                          .chunk = kChunk,
                          .width = kWidth,
                          .heads = 2,
                          .layers = 2,
                          .mlp_width = 4 * kWidth},
          .target = target};
}

DiffusionDraws make_draws(int64_t repeats, DiffusionTarget target) {
  const int64_t rows = repeats * kBatch;
  return {torch::randn({rows, kChunk, kActions}),
          target == DiffusionTarget::kFlow ? torch::rand({rows})
                                           : torch::randint(100, {rows}, torch::kLong),
          torch::arange(rows).remainder(3).eq(1)};
}

class ActionDiffusionTest : public testing::TestWithParam<DiffusionTarget> {
 protected:
  ActionDiffusionTest() {
    torch::manual_seed(5);
    action_ = ActionDiffusion(small_options(GetParam()));
    actions_ = torch::randn({kBatch, kChunk, kActions});
    condition_ = torch::randn({kBatch, kChunk, kWidth});
  }
  void start_somewhere() { torch::nn::init::normal_(action_->transformer->out->weight, 0, 0.2); }

  ActionDiffusion action_{nullptr};
  at::Tensor actions_, condition_;
};

// The last linear starts at zero: the loss is the variance of what should be predicted.
TEST_P(ActionDiffusionTest, StartsAtTheVarianceOfItsTarget) {
  const DiffusionDraws draws = make_draws(400, GetParam());
  const double expected =
      GetParam() == DiffusionTarget::kFlow ? 1.0 + actions_.square().mean().item<double>() : 1.0;
  const double loss = action_->loss(actions_, condition_, draws).item<double>();
  EXPECT_NEAR(loss / static_cast<double>(draws.noise.numel()), expected, 0.03 * expected);
}

TEST_P(ActionDiffusionTest, LossAddsUpOverRepeatsAndSamples) {
  start_somewhere();
  const DiffusionDraws draws = make_draws(2, GetParam());
  const double whole = action_->loss(actions_, condition_, draws).item<double>();
  double sum = 0;
  for (int64_t row = 0; row < 2 * kBatch; ++row) {
    const auto one = [&](const at::Tensor& t, int64_t i) { return t.slice(0, i, i + 1); };
    sum += action_
               ->loss(one(actions_, row % kBatch), one(condition_, row % kBatch),
                      {one(draws.noise, row), one(draws.time, row), one(draws.dropped, row)})
               .item<double>();
  }
  EXPECT_NEAR(sum, whole, 1e-4 * whole);
}

TEST_P(ActionDiffusionTest, GradientsAreFiniteDifferences) {
  start_somewhere();
  action_->to(torch::kDouble);
  DiffusionDraws draws = make_draws(2, GetParam());
  draws.noise = draws.noise.to(torch::kDouble);
  const auto actions = actions_.to(torch::kDouble);
  const auto condition = condition_.to(torch::kDouble).requires_grad_();
  auto tensors = action_->parameters();
  tensors.push_back(condition);
  expect_finite_differences(tensors, [&] { return action_->loss(actions, condition, draws); });
}

TEST_P(ActionDiffusionTest, DroppedConditionsAreNotSeen) {
  start_somewhere();
  DiffusionDraws draws = make_draws(1, GetParam());
  draws.dropped = torch::tensor({1, 0, 1, 1, 0}, torch::kBool);
  const auto condition = condition_.clone().requires_grad_();
  action_->loss(actions_, condition, draws).backward();
  const auto seen = condition.grad().abs().sum({1, 2}).gt(0);
  EXPECT_TRUE(torch::equal(seen, draws.dropped.logical_not()));
  EXPECT_GT(action_->transformer->no_condition.grad().abs().sum().item<double>(), 0);
}

TEST_P(ActionDiffusionTest, SamplesAreTheSameForTheSameNoiseAndFollowTheCondition) {
  start_somewhere();
  const auto noise = torch::randn({kBatch, kChunk, kActions});
  const auto a = action_->sample(condition_, noise, {});
  EXPECT_EQ(a.sizes(), noise.sizes());
  EXPECT_FALSE(a.requires_grad());
  EXPECT_TRUE(torch::equal(a, action_->sample(condition_, noise, {})));
  EXPECT_FALSE(torch::allclose(a, action_->sample(condition_ * 2, noise, {})));
  // Without guidance's first part the condition is nothing.
  const ActionSamplingOptions unguided{.guidance = 0};
  EXPECT_TRUE(are_close(action_->sample(condition_, noise, unguided),
                        action_->sample(condition_ * 2, noise, unguided), 1e-5));
}

INSTANTIATE_TEST_SUITE_P(Targets, ActionDiffusionTest,
                         testing::Values(DiffusionTarget::kEpsilon, DiffusionTarget::kFlow),
                         [](const auto& target) {
                           return target.param == DiffusionTarget::kFlow ? "Flow" : "Epsilon";
                         });

TEST(ActionDiffusionParity, SamplesAreThoseOfThePublishedModel) {
  ActionDiffusion action(small_options());
  load_golden(*action->transformer, "dit");
  const at::Tensor got = action->sample(golden("sample.condition"), golden("sample.noise"),
                                        {.steps = 10, .guidance = 1.5});
  EXPECT_TRUE(are_close(got, golden("sample.ddim"), 1e-4));
}

TEST(ActionDiffusionParity, FlowIsThatOfThePublishedModel) {
  ActionDiffusion action(small_options(DiffusionTarget::kFlow));
  load_golden(*action->transformer, "dit");
  EXPECT_TRUE(are_close(action->sample(golden("sample.condition"), golden("sample.noise"),
                                       {.steps = 10, .guidance = 1.0}),
                        golden("sample.flow"), 1e-4));
  const at::Tensor condition = golden("flow.condition").requires_grad_();
  const DiffusionDraws draws{golden("flow.noise"), golden("flow.time"),
                             golden("flow.dropped").to(torch::kBool)};
  const at::Tensor loss = action->loss(golden("actions").flatten(0, 1), condition, draws);
  EXPECT_TRUE(are_close(loss / draws.noise.numel(), golden("flow.loss"), 1e-5));
  (loss / draws.noise.numel()).backward();
  EXPECT_TRUE(are_close(condition.grad(), golden("flow.gradient"), 1e-4));
}

// Why zero_output is an option.
TEST(ActionDiffusionParity, PublishedOutputDoesNotStartAtZero) {
  EXPECT_GT(golden("initial.largest_output_weight").item<double>(), 0.1);
  DiffusionTransformerOptions options = small_options().transformer;
  EXPECT_EQ(DiffusionTransformer(options)->out->weight.abs().max().item<double>(), 0);
  options.zero_output = false;
  EXPECT_GT(DiffusionTransformer(options)->out->weight.abs().max().item<double>(), 0.1);
}

}  // namespace
}  // namespace espalier
