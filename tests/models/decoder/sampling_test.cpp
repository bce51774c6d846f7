#include "models/decoder/sampling.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/models/close.h"

namespace espalier {
namespace {

constexpr int64_t kReading = 0;  // indices of the branches of tiny()
constexpr int64_t kDrawing = 1;

YModelOptions tiny() {
  return {.width = 32,
          .heads = 2,
          .kv_heads = 2,
          .feed_forward_width = 48,
          .trunk_layers = 1,
          .branches = {{"reading", 1, BranchHead::kText}, {"drawing", 1, BranchHead::kCodes}},
          .longest_sequence = 32,
          .vocabulary_size = 20,
          .image_positions = 6,
          .code_channels = 8,
          .stages = 3,
          .codebook_size = 9,
          .depth_width = 32,
          .depth_heads = 2,
          .depth_layers = 1,
          .depth_feed_forward_width = 40};
}

class Drawing : public ::testing::Test {
 protected:
  Drawing() {
    torch::manual_seed(2);
    model_ = YModel(tiny());
    books_ = torch::randn({3, 9, 8});
    uniforms_ = torch::rand({2, 6, 3});
  }
  at::Tensor draw(const std::vector<std::vector<int64_t>>& prompts, SamplingOptions options) {
    return draw_codes(model_, kDrawing, prompts, {1, 2}, books_, uniforms_, options);
  }
  YModel model_{nullptr};
  at::Tensor books_, uniforms_;
};

TEST(SampleRows, FollowsTheUniformNumberThroughTheCumulativeDistribution) {
  const auto logits = torch::tensor({0.5, 0.3, 0.2}).log().repeat({4, 1});
  const auto uniforms = torch::tensor({0.0, 0.49, 0.51, 0.99});
  EXPECT_TRUE(
      torch::equal(sample_rows(logits, uniforms, {}), torch::tensor({0, 0, 1, 2}, torch::kLong)));
}

TEST(SampleRows, TopKAndTopPLeaveOnlyTheMostLikely) {
  const auto logits = torch::tensor({0.2, 0.5, 0.3}).log().repeat({2, 1});
  const auto high = torch::tensor({0.999, 1.0});
  EXPECT_TRUE(
      torch::equal(sample_rows(logits, high, {.top_k = 2}), torch::tensor({2, 2}, torch::kLong)));
  EXPECT_TRUE(
      torch::equal(sample_rows(logits, high, {.top_p = 0.4}), torch::tensor({1, 1}, torch::kLong)));
  EXPECT_TRUE(torch::equal(sample_rows(logits, high, {.temperature = 0}),
                           torch::tensor({1, 1}, torch::kLong)));
}

TEST(SampleRows, TheTightestOptionsLeaveTheMostLikely) {
  torch::manual_seed(7);
  const auto logits = torch::randn({50, 30}) * 20;
  const auto uniforms = torch::rand({50});
  const auto best = logits.argmax(-1);
  EXPECT_TRUE(torch::equal(sample_rows(logits, uniforms, {.top_p = 0}), best));
  EXPECT_TRUE(torch::equal(sample_rows(logits, uniforms, {.top_k = 1}), best));
  EXPECT_TRUE(torch::equal(sample_rows(logits, uniforms, {.top_k = 1, .top_p = 0}), best));
  for (const double temperature : {1e-5, 1e-37, 1e-45, 1e-300}) {
    EXPECT_TRUE(torch::equal(sample_rows(logits, uniforms, {.temperature = temperature}), best))
        << temperature;
  }
}

class Guidance : public ::testing::Test {
 protected:
  // The last code is as good as impossible, and without the condition more so still.
  at::Tensor c_ = torch::tensor({0.6, 0.399, 0.001}).log().unsqueeze(0);
  at::Tensor u_ = torch::tensor({0.9, 0.1 - 1e-9, 1e-9}).log().unsqueeze(0);
};

TEST_F(Guidance, IsTheLineThroughBothLogitsWithoutPlausibility) {
  for (const double scale : {0.5, 1.0, 4.0}) {
    EXPECT_TRUE(torch::allclose(guided_logits(c_, u_, scale, 0), u_ + scale * (c_ - u_))) << scale;
  }
  EXPECT_EQ(guided_logits(c_, u_, 4.0, 0).argmax(-1).item<int64_t>(), 2);
}

TEST_F(Guidance, ExtrapolatesAmongWhatTheConditionFindsPlausible) {
  EXPECT_TRUE(torch::allclose(guided_logits(c_, u_, 0.5, 0.2), (c_ + u_) / 2));
  const auto strong = guided_logits(c_, u_, 2.0, 0.2);
  EXPECT_EQ(strong.argmax(-1).item<int64_t>(), 1);  // favoured by the condition
  EXPECT_TRUE(torch::allclose(strong.narrow(1, 0, 2), (2 * c_ - u_).narrow(1, 0, 2)));
  EXPECT_EQ(strong[0][2].item<double>(), -std::numeric_limits<double>::infinity());
}

TEST_F(Drawing, WithTheKeyValueCacheGivesTheCodesOfAFullForward) {
  const std::vector<std::vector<int64_t>> prompts = {{1, 5}, {1, 7, 8, 9}};
  const auto codes = draw(prompts, {.guidance = 1.0, .temperature = 0});
  const torch::NoGradGuard no_grad;
  for (int64_t b = 0; b < 2; ++b) {
    const auto& prompt = prompts[static_cast<size_t>(b)];
    const auto length = static_cast<int64_t>(prompt.size());
    std::vector<at::Tensor> vectors;
    for (int64_t s = 0; s < 3; ++s)
      vectors.push_back(books_[s].index_select(0, codes[b].select(1, s)));
    const auto sums = torch::stack(vectors).cumsum(0);  // (S, P, C)
    TokenRows rows;
    rows.text_ids = torch::tensor(prompt, torch::kLong);
    rows.code_sums = sums[2].narrow(0, 0, 5);
    rows.positions = torch::arange(5, torch::kLong);
    rows.sources = torch::cat({torch::arange(length, torch::kLong) + kFirstText,
                               torch::zeros({1}, torch::kLong),
                               torch::arange(5, torch::kLong) + kFirstText + length});
    rows.mask = AttentionMask::from_lengths({length + 6});
    const auto hidden = model_->hidden(rows, kDrawing).narrow(0, length, 6);
    const auto logits = model_->depth(kDrawing)->forward(hidden, sums.narrow(0, 0, 2));
    EXPECT_TRUE(torch::equal(logits.argmax(-1).t(), codes[b])) << b;
  }
}

TEST_F(Drawing, GivesTheSameCodesForTheSameUniformNumbersOnly) {
  const std::vector<std::vector<int64_t>> prompts = {{1, 5}, {1, 7, 8, 9}};
  const auto first = draw(prompts, {.guidance = 2.0});
  EXPECT_TRUE(torch::equal(draw(prompts, {.guidance = 2.0}), first));
  uniforms_ = torch::rand({2, 6, 3});
  EXPECT_FALSE(torch::equal(draw(prompts, {.guidance = 2.0}), first));
}

TEST_F(Drawing, IsNotChangedByGuidanceWhereThePromptIsTheNullPrompt) {
  const std::vector<std::vector<int64_t>> null = {{1, 2}, {1, 2}};
  EXPECT_TRUE(torch::equal(draw(null, {.guidance = 3.0, .temperature = 0}),
                           draw(null, {.guidance = 1.0, .temperature = 0})));
}

TEST(ContinueText, WritesWhatAFullForwardFindsMostLikely) {
  torch::manual_seed(4);
  YModel model(tiny());
  const torch::NoGradGuard no_grad;
  TokenRows rows;
  rows.text_ids = torch::tensor({3, 4, 5, 6}, torch::kLong);
  rows.sources = torch::arange(4, torch::kLong) + kFirstText;
  rows.mask = AttentionMask::from_lengths({2, 2});
  const auto texts = continue_text(model, kReading, rows, /*end_id=*/-1, 4);
  ASSERT_EQ(texts.size(), 2U);
  std::vector<int64_t> sequence = {5, 6};
  for (const int32_t id : texts[1]) {
    TokenRows all;
    all.text_ids = torch::tensor(sequence, torch::kLong);
    const auto length = static_cast<int64_t>(sequence.size());
    all.sources = torch::arange(length, torch::kLong) + kFirstText;
    all.mask = AttentionMask::from_lengths({length});
    const auto hidden = model->hidden(all, kReading);
    EXPECT_EQ(model->text_logits(hidden, kReading)[length - 1].argmax().item<int64_t>(), id);
    sequence.push_back(id);
  }
}

}  // namespace
}  // namespace espalier
