// The parts of a measure that need no training: places, windows, and when the next one comes.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "trainer/interference/gradient_sums.h"
#include "trainer/interference/interference_record.h"
#include "trainer/interference/measure_window.h"
#include "trainer/interference/parameter_place.h"

namespace espalier {
namespace {

TEST(ParameterPlace, IsReadFromTheName) {
  EXPECT_EQ(place_of("model/y/trunk.3.query_key_value.weight"),
            (ParameterPlace{"trunk", 3, "query_key_value"}));
  EXPECT_EQ(place_of("trunk.3.query_key_value.bias"),
            (ParameterPlace{"trunk", 3, "query_key_value"}));
  EXPECT_EQ(place_of("branch.generation.layers.12.down.weight"),
            (ParameterPlace{"branch.generation.layers", 12, "down"}));
  EXPECT_EQ(place_of("text_embedding.weight"), (ParameterPlace{"text_embedding", -1, ""}));
  EXPECT_EQ(place_of("image_marks"), (ParameterPlace{"image_marks", -1, ""}));
  EXPECT_EQ(place_of("model/y/projector.in.bias"), (ParameterPlace{"projector.in", -1, ""}));
  EXPECT_EQ(place_of("weight"), (ParameterPlace{"weight", -1, ""}));
  EXPECT_EQ(place_of("coarse.0.1.weight"), (ParameterPlace{"coarse", 0, "1"}));
  EXPECT_EQ(text_of(place_of("trunk.3.down.weight")), "trunk.3.down");
}

TEST(MeasureWindow, IsAsLongAsTheRarestObjectiveNeeds) {
  const StepPlan even({1, 1}, 6, 2), rare({11, 1}, 6, 2), single({1, 1}, 1, 2);
  const std::vector<bool> both = {true, true};
  EXPECT_EQ(measure_window(even, both, 7, 100).steps, 1);
  EXPECT_EQ(measure_window(rare, both, 0, 100).steps, 4);
  EXPECT_EQ(measure_window(single, both, 0, 100).steps, 4);
  EXPECT_EQ(measure_window(rare, {true, false}, 0, 100).steps, 1);  // it shares nothing
  EXPECT_EQ(measure_window(rare, both, 98, 100).steps, 2);          // the stage ends
  EXPECT_EQ(measure_window(StepPlan({119, 1}, 1, 2), both, 0, 100).steps, kMostSteps);
  const MeasureWindow window = measure_window(even, both, 7, 100);
  EXPECT_EQ(window.turns[0][0] + window.turns[0][1], 3);
  EXPECT_EQ(window.turns[1][0] + window.turns[1][1], 3);
}

TEST(MeasureSpacing, MeasuresEndWithMultiplesOfEverySteps) {
  EXPECT_EQ(first_measure(0, 5), 4);
  EXPECT_EQ(first_measure(4, 5), 4);
  EXPECT_EQ(first_measure(5, 5), 9);
  EXPECT_EQ(first_measure(3, 1), 3);
}

TEST(MeasureSpacing, MeasuresMoveApartUntilTheyCostTheBudget) {
  // 0.6 s at 1 s a step: 3 % of 20 steps.
  EXPECT_EQ(next_measure(4, 5, 5, 0.6, 1.0, 0.03), 24);
  EXPECT_EQ(next_measure(4, 5, 5, 0.61, 1.0, 0.03), 29);
  EXPECT_EQ(next_measure(4, 5, 5, 0.01, 1.0, 0.03), 9);    // cheaper than the budget
  EXPECT_EQ(next_measure(4, 5, 5, 0.6, 0.0, 0.03), 9);     // nobody knows what a step takes
  EXPECT_EQ(next_measure(4, 12, 5, 0.01, 1.0, 0.03), 14);  // not inside of the one before
}

TEST(GradientSums, CatchesWhatABackwardPassDeliversAndLeavesItAsItIs) {
  const at::Tensor w = torch::tensor({1.0F, 2.0F}, at::requires_grad());
  GradientSums sums({w}, /*objectives=*/2);
  sums.start();
  sums.catch_next(0, 1);
  (w * w).sum().backward();
  sums.catch_none();
  (3 * w).sum().backward();
  EXPECT_TRUE(w.grad().equal(torch::tensor({5.0F, 7.0F})));
  EXPECT_TRUE(
      sums.rows().equal(torch::tensor({{0.0F, 0.0F}, {2.0F, 4.0F}, {0.0F, 0.0F}, {0.0F, 0.0F}})));
}

TEST(GradientSums, APassOfItsOwnLeavesTheGraphAndTheGradientsAlone) {
  const at::Tensor w = torch::tensor({1.0F, 2.0F}, at::requires_grad());
  const at::Tensor other = torch::ones({1}, at::requires_grad());
  GradientSums sums({w, other}, 2);
  sums.start();
  const at::Tensor loss = (w * w).sum();
  sums.add(1, 0, loss);
  EXPECT_FALSE(w.grad().defined());
  loss.backward();
  EXPECT_TRUE(w.grad().equal(torch::tensor({2.0F, 4.0F})));
  EXPECT_TRUE(sums.rows()[2].equal(torch::tensor({2.0F, 4.0F, 0.0F})));
}

TEST(GradientSums, HearsNothingWhenItIsGone) {
  const at::Tensor w = torch::ones({1}, at::requires_grad());
  { const GradientSums sums({w}, 2); }
  (2 * w).sum().backward();
  EXPECT_EQ(w.grad().item<float>(), 2);
}

TEST(InterferenceRecord, SurvivesItsFile) {
  InterferenceRecord record;
  record.stage = "s";
  record.step = 7;
  record.objectives = {"a", "b", "c"};
  record.branches = {"l", "r", ""};
  record.update_ratios = {{"trunk", 0.5}};
  PlaceMeasure& place = record.places.emplace_back();
  place.place = {"trunk", 2, "down"};
  place.norms = {1, kUnknown, 3};
  place.cosines = place.half_cosines = {0.1, 0.2, kUnknown};
  place.split_half = {0.5, 0.6, 0.7};
  const auto back = interference_record_from_json(nlohmann::json::parse(to_json(record).dump()));
  EXPECT_EQ(back.stage, "s");
  EXPECT_EQ(back.objectives, record.objectives);
  EXPECT_EQ(back.pairs(), (std::vector<std::pair<size_t, size_t>>{{0, 1}, {0, 2}, {1, 2}}));
  EXPECT_EQ(back.places.at(0).place, place.place);
  EXPECT_TRUE(std::isnan(back.places[0].norms[1]));
  EXPECT_NEAR(beyond_baseline(back.places[0], 1), 0.2 - 0.6, 1e-12);
  EXPECT_TRUE(std::isnan(beyond_baseline(back.places[0], 2)));
  EXPECT_EQ(back.update_ratios, record.update_ratios);
}

TEST(InterferenceRecord, OfAnotherShapeBecomesUnknownNumbers) {
  const auto record = interference_record_from_json(nlohmann::json::parse(
      R"({"objectives": ["a", 3], "step": "x", "places": [{"layer": 1, "cosine": [0.5, 0.5]}, 7]})"));
  EXPECT_EQ(record.step, 0);
  ASSERT_EQ(record.places.size(), 2u);
  EXPECT_EQ(record.places[0].cosines, std::vector<double>{0.5});
  EXPECT_TRUE(std::isnan(record.places[1].norms.at(1)));
  EXPECT_TRUE(interference_record_from_json(nlohmann::json::array()).places.empty());
}

}  // namespace
}  // namespace espalier
