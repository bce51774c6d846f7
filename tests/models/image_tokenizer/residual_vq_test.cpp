#include "models/image_tokenizer/residual_vq.h"

#include <gtest/gtest.h>

#include "models/weights/safetensors.h"
#include "tests/models/close.h"

namespace espalier {
namespace {

ResidualQuantizer make(int64_t stages, int64_t size, int64_t channels, double decay = 0.99,
                       double dead_below = 0.0) {
  ResidualQuantizerOptions options;
  options.stages = stages;
  options.codebook_size = size;
  options.channels = channels;
  options.decay = decay;
  options.dead_below = dead_below;
  return ResidualQuantizer(options);
}

at::Tensor no_candidates(const ResidualQuantizer& quantizer) {
  return at::full(quantizer->counts.sizes(), -1, at::kLong);
}

TEST(ResidualQuantizer, TheSecondStageQuantizesWhatTheFirstLeaves) {
  ResidualQuantizer quantizer = make(2, 3, 2);
  quantizer->codebooks[0].copy_(torch::tensor({{0.F, 0.F}, {2.F, 0.F}, {0.F, 2.F}}));
  quantizer->codebooks[1].copy_(torch::tensor({{0.F, 0.F}, {.5F, 0.F}, {0.F, .5F}}));
  const Quantized result = quantizer->quantize(torch::tensor({{1.7F, .6F}}));
  EXPECT_TRUE(torch::equal(result.codes, torch::tensor({{1, 2}}, at::kLong)));
  EXPECT_TRUE(torch::equal(result.sums[1], torch::tensor({{2.F, .5F}})));
  EXPECT_TRUE(torch::equal(quantizer->embed(result.codes, 2), result.sums[1]));
}

TEST(ResidualQuantizer, CodesMoveToTheExponentialAverageOfWhatChoseThem) {
  ResidualQuantizer quantizer = make(1, 3, 2);
  const at::Tensor start = torch::tensor({{0.F, 0.F}, {1.F, 1.F}, {4.F, 4.F}});
  quantizer->codebooks[0].copy_(start);
  quantizer->averages[0].copy_(start);
  quantizer->counts.fill_(1);
  const at::Tensor x = torch::tensor({{.2F, 0.F}, {.4F, .2F}, {1.2F, 1.F}, {.9F, 1.3F}});
  const Quantized result = quantizer->quantize(x);
  EXPECT_TRUE(torch::equal(result.codes, torch::tensor({{0}, {0}, {1}, {1}}, at::kLong)));

  at::Tensor statistics = quantizer->new_statistics();
  quantizer->add_statistics(x, result, no_candidates(quantizer), statistics);
  quantizer->update(statistics);

  EXPECT_TRUE(torch::allclose(quantizer->counts[0], torch::tensor({1.01F, 1.01F, .99F})));
  EXPECT_TRUE(torch::allclose(quantizer->averages[0],
                              torch::tensor({{.006F, .002F}, {1.011F, 1.013F}, {3.96F, 3.96F}})));
  EXPECT_TRUE(torch::allclose(
      quantizer->codebooks[0],
      torch::tensor({{.005941F, .00198F}, {1.00099F, 1.00297F}, {3.999999F, 3.999999F}}), 1e-4,
      1e-6));
  EXPECT_NEAR((x - result.sums[0]).square().mean().item<float>(), .0475, 1e-6);
}

TEST(ResidualQuantizer, TiesGoToTheLowerCode) {
  ResidualQuantizer quantizer = make(1, 4, 1);
  quantizer->codebooks[0].copy_(torch::tensor({{5.F}, {1.F}, {1.F}, {-1.F}}));
  const Quantized result = quantizer->quantize(torch::tensor({{1.F}, {0.F}}));
  EXPECT_TRUE(torch::equal(result.codes, torch::tensor({{1}, {1}}, at::kLong)));
}

TEST(ResidualQuantizer, FindsTheNearestCodeOfEveryResidual) {
  torch::manual_seed(2);
  ResidualQuantizer quantizer = make(3, 17, 5);
  const at::Tensor x = torch::randn({1300, 5});  // more rows than are searched at once
  const Quantized result = quantizer->quantize(x);
  at::Tensor residual = x;
  for (int64_t stage = 0; stage < 3; ++stage) {
    const at::Tensor expected = at::cdist(residual, quantizer->codebooks[stage]).argmin(1);
    EXPECT_TRUE(torch::equal(result.codes.select(1, stage), expected)) << "stage " << stage;
    residual = x - result.sums[stage];
  }
  EXPECT_TRUE(torch::allclose(quantizer->embed(result.codes, 3), result.sums[2]));
}

TEST(ResidualQuantizer, WithAZeroVectorInEveryCodebookResidualsDoNotGrow) {
  torch::manual_seed(3);
  ResidualQuantizer quantizer = make(4, 8, 3);
  quantizer->codebooks.select(1, 0).zero_();
  const at::Tensor x = torch::randn({200, 3});
  const Quantized result = quantizer->quantize(x);
  at::Tensor before = x.norm(2, 1);
  for (int64_t stage = 0; stage < 4; ++stage) {
    const at::Tensor after = (x - result.sums[stage]).norm(2, 1);
    EXPECT_TRUE((after <= before + 1e-6).all().item<bool>()) << "stage " << stage;
    before = after;
  }
}

TEST(ResidualQuantizer, StatisticsOfPartsAddUpToThoseOfTheWholeBatch) {
  torch::manual_seed(4);
  ResidualQuantizer quantizer = make(2, 8, 3, 0.9, 1.0);
  const at::Tensor x = torch::randn({60, 3});
  const at::Tensor rows = torch::randint(60, {2, 8}, at::kLong);
  at::Tensor whole = quantizer->new_statistics();
  quantizer->add_statistics(x, quantizer->quantize(x), rows, whole);

  at::Tensor parts = quantizer->new_statistics();
  for (int64_t begin = 0; begin < 60; begin += 20) {
    const at::Tensor part = x.narrow(0, begin, 20);
    const at::Tensor inside = rows.ge(begin).logical_and(rows.lt(begin + 20));
    quantizer->add_statistics(part, quantizer->quantize(part), at::where(inside, rows - begin, -1),
                              parts);
  }
  EXPECT_TRUE(torch::allclose(whole, parts, 1e-5, 1e-5));
}

// One update by rows `x`, with `candidate_rows` of them offered. Returns the restarts per stage.
at::Tensor update_with(ResidualQuantizer& quantizer, const at::Tensor& x,
                       const at::Tensor& candidate_rows) {
  at::Tensor statistics = quantizer->new_statistics();
  quantizer->add_statistics(x, quantizer->quantize(x), candidate_rows, statistics);
  return quantizer->update(statistics);
}

TEST(ResidualQuantizer, DeadCodesBecomeTheirCandidates) {
  ResidualQuantizer quantizer = make(1, 3, 2, 0.9, 1.0);
  const at::Tensor codes = torch::tensor({{0.F, 0.F}, {50.F, 50.F}, {-50.F, 50.F}});
  quantizer->codebooks[0].copy_(codes);
  quantizer->averages[0].copy_(codes * 4);
  quantizer->counts.copy_(torch::tensor({{4.F, 1.05F, 4.F}}));
  const at::Tensor x = torch::tensor({{1.F, 0.F}, {0.F, 3.F}});
  const at::Tensor restarted = update_with(quantizer, x, torch::tensor({{0, 1, -1}}, at::kLong));
  EXPECT_EQ(restarted.item<int64_t>(), 1);
  EXPECT_TRUE(torch::equal(quantizer->codebooks[0][1], torch::tensor({0.F, 3.F})));
  EXPECT_TRUE(torch::equal(quantizer->averages[0][1], torch::tensor({0.F, 3.F})));
  EXPECT_EQ(quantizer->counts[0][1].item<float>(), 1.F);
}

TEST(ResidualQuantizer, ARestartedCodeCountsAsTheThresholdSoThatItIsNotRestartedAtOnce) {
  ResidualQuantizer quantizer = make(1, 2, 1, 0.9, 4.0);
  quantizer->codebooks[0].copy_(torch::tensor({{0.F}, {50.F}}));
  quantizer->averages[0].copy_(torch::tensor({{0.F}, {200.F}}));
  quantizer->counts.copy_(torch::tensor({{8.F, 4.F}}));
  const at::Tensor x = at::cat({torch::zeros({5, 1}), torch::full({5, 1}, 3.F)});
  const at::Tensor rows = torch::tensor({{0, 9}}, at::kLong);
  EXPECT_EQ(update_with(quantizer, x, rows).item<int64_t>(), 1);
  EXPECT_EQ(quantizer->counts[0][1].item<float>(), 4.F);
  EXPECT_EQ(quantizer->averages[0][1].item<float>(), 12.F);
  EXPECT_EQ(update_with(quantizer, x, rows).item<int64_t>(), 0);
}

TEST(ResidualQuantizer, EveryStageStartsFromWhatTheStagesBeforeItLeave) {
  torch::manual_seed(6);
  ResidualQuantizer quantizer = make(3, 8, 4);
  const at::Tensor rows = torch::arange(24, at::kLong).view({3, 8});
  for (int64_t step = 0; step < 3; ++step) {
    const at::Tensor x = torch::randn({64, 4});
    const Quantized before = quantizer->quantize(x);
    update_with(quantizer, x, rows);
    at::Tensor left = x.narrow(0, 8 * step, 8);
    if (step > 0) left = left - before.sums[step - 1].narrow(0, 8 * step, 8);
    EXPECT_TRUE(torch::allclose(quantizer->codebooks[step], left)) << "stage " << step;
    const at::Tensor has_started = quantizer->counts.sum(1).gt(0);
    EXPECT_EQ(has_started.sum().item<int64_t>(), step + 1);
  }
}

TEST(ResidualQuantizer, ACodeThatNothingChoosesKeepsItsVector) {
  ResidualQuantizer quantizer = make(1, 2, 1, 0.9);
  quantizer->codebooks[0].copy_(torch::tensor({{0.F}, {50.F}}));
  quantizer->averages[0].copy_(torch::tensor({{0.F}, {50.F}}));
  quantizer->counts.fill_(1);
  const at::Tensor x = torch::ones({4, 1});
  for (int step = 0; step < 2000; ++step) update_with(quantizer, x, no_candidates(quantizer));
  EXPECT_NEAR(quantizer->codebooks[0][1].item<float>(), 50.F, 1.F);
  EXPECT_NEAR(quantizer->codebooks[0][0].item<float>(), 1.F, 1e-3F);
}

// Of rows from one distribution, at every threshold that a user may set.
class Restarts : public testing::TestWithParam<double> {};

TEST_P(Restarts, OnAStationaryStreamEndWithUsedCodesAndFewRestarts) {
  torch::manual_seed(9);
  constexpr int64_t kStages = 3, kSize = 32, kRows = 1024, kSteps = 400, kLast = 50;
  ResidualQuantizer quantizer = make(kStages, kSize, 6, 0.98, GetParam());
  const auto draw = [&] { return torch::randn({kRows, 6}) + 2; };
  at::Tensor restarts = torch::zeros({kStages}, at::kLong);
  for (int64_t step = 0; step < kSteps; ++step) {
    const at::Tensor rows = torch::randint(kRows, {kStages, kSize}, at::kLong);
    const at::Tensor restarted = update_with(quantizer, draw(), rows);
    if (step >= kSteps - kLast) restarts += restarted;
  }
  EXPECT_GT(quantizer->codebooks.norm(2, 2).min().item<float>(), 1e-2) << "a vector is zero";
  EXPECT_LE(restarts.max().item<int64_t>(), kLast * kSize / 100)
      << "more than one code in a hundred restarted per step: " << restarts;
  const at::Tensor x = draw();
  const Quantized quantized = quantizer->quantize(x);
  at::Tensor error = x.square().mean();
  for (int64_t stage = 0; stage < kStages; ++stage) {
    const at::Tensor codes = quantized.codes.select(1, stage);
    const auto used = std::get<0>(at::_unique2(codes)).numel();
    EXPECT_GE(used, kSize * 3 / 4) << "codes used in stage " << stage;
    const at::Tensor left = (x - quantized.sums[stage]).square().mean();
    EXPECT_LT(left.item<float>(), error.item<float>() * 0.75F) << "stage " << stage;
    error = left;
  }
}

INSTANTIATE_TEST_SUITE_P(Thresholds, Restarts, testing::Values(0.0, 0.5, 1.0, 4.0));

// Written by tests/parity/dump_codebook_updates.py with the public package.
class PublicCodebook : public testing::TestWithParam<int> {};

TEST_P(PublicCodebook, EveryUpdateGivesItsCodesCountsAndVectors) {
  const TensorMap golden = read_safetensors(std::string(ESPALIER_SOURCE_DIR) +
                                            "/tests/parity/golden/codebook_updates.safetensors");
  const std::string name = "threshold_" + std::to_string(GetParam());
  const at::Tensor& start = golden.at("start");
  ResidualQuantizer quantizer = make(1, start.size(0), start.size(1), 0.8, GetParam());
  quantizer->codebooks[0].copy_(start);
  quantizer->averages[0].copy_(start);
  quantizer->counts.fill_(1);
  for (int64_t step = 0; step < golden.at("rows").size(0); ++step) {
    const at::Tensor x = golden.at("rows")[step].contiguous();
    const std::string at_step = name + ".step_" + std::to_string(step);
    EXPECT_TRUE(
        torch::equal(quantizer->quantize(x).codes.flatten(), golden.at(at_step + ".codes")));
    const at::Tensor restarted =
        update_with(quantizer, x, golden.at("candidate_rows")[step].unsqueeze(0).contiguous());
    EXPECT_TRUE(torch::equal(restarted[0], golden.at(name + ".restarted")[step])) << at_step;
    EXPECT_TRUE(are_close(quantizer->codebooks[0], golden.at(at_step + ".codebook"), 1e-5));
    EXPECT_TRUE(are_close(quantizer->counts[0], golden.at(at_step + ".counts"), 1e-5));
    EXPECT_TRUE(are_close(quantizer->averages[0], golden.at(at_step + ".averages"), 1e-5));
  }
}

INSTANTIATE_TEST_SUITE_P(Thresholds, PublicCodebook, testing::Values(0, 1, 4));

}  // namespace
}  // namespace espalier
