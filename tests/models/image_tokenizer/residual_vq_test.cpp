#include "models/image_tokenizer/residual_vq.h"

#include <gtest/gtest.h>

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

TEST(ResidualQuantizer, FollowsTheTwoStageExample) {
  ResidualQuantizer quantizer = make(2, 3, 2);
  quantizer->codebooks[0].copy_(torch::tensor({{0.F, 0.F}, {2.F, 0.F}, {0.F, 2.F}}));
  quantizer->codebooks[1].copy_(torch::tensor({{0.F, 0.F}, {.5F, 0.F}, {0.F, .5F}}));
  const Quantized result = quantizer->quantize(torch::tensor({{1.7F, .6F}}));
  EXPECT_TRUE(torch::equal(result.codes, torch::tensor({{1, 2}}, at::kLong)));
  EXPECT_TRUE(torch::equal(result.sums[1], torch::tensor({{2.F, .5F}})));
  EXPECT_TRUE(torch::equal(quantizer->embed(result.codes, 2), result.sums[1]));
}

TEST(ResidualQuantizer, FollowsTheExponentialAverageExample) {
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

TEST(ResidualQuantizer, ResidualsDoNotGrowWithAZeroVectorInEveryCodebook) {
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

TEST(ResidualQuantizer, PartsOfABatchAddUpToTheWholeBatch) {
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

TEST(ResidualQuantizer, DeadCodesBecomeTheirCandidates) {
  ResidualQuantizer quantizer = make(1, 3, 2, 0.9, 1.0);
  const at::Tensor codes = torch::tensor({{0.F, 0.F}, {50.F, 50.F}, {-50.F, 50.F}});
  quantizer->codebooks[0].copy_(codes);
  quantizer->averages[0].copy_(codes * 4);
  quantizer->counts.copy_(torch::tensor({{4.F, 1.05F, 4.F}}));
  const at::Tensor x = torch::tensor({{1.F, 0.F}, {0.F, 3.F}});
  at::Tensor statistics = quantizer->new_statistics();
  quantizer->add_statistics(x, quantizer->quantize(x), torch::tensor({{0, 1, -1}}, at::kLong),
                            statistics);
  const at::Tensor restarted = quantizer->update(statistics);
  EXPECT_EQ(restarted.item<int64_t>(), 1);
  EXPECT_TRUE(torch::allclose(quantizer->codebooks[0][1], torch::tensor({0.F, 3.F}), 1e-4));
  EXPECT_TRUE(torch::allclose(quantizer->averages[0][1], torch::tensor({0.F, 3.F})));
  EXPECT_EQ(quantizer->counts[0][1].item<float>(), 1.F);
}

}  // namespace
}  // namespace espalier
