#include "models/decoder/sampling.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

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
  at::Tensor draw(const std::vector<std::vector<int64_t>>& ids, SamplingOptions options) {
    std::vector<DrawPrompt> prompts;
    for (const auto& each : ids) prompts.push_back({.ids = each, .null = {1, 2}});
    return draw_codes(model_, kDrawing, prompts, books_, uniforms_, options);
  }
  // Two prompts of different lengths, with a picture and a text each.
  at::Tensor draw_after_pictures(SamplingOptions options) {
    std::vector<DrawPrompt> prompts;
    for (const std::vector<int64_t>& ids :
         {std::vector<int64_t>{kPicture, 5, 4}, {3, kPicture, 7, 8, 9, 4}}) {
      prompts.push_back({.ids = ids,
                         .without_text = {kPicture, 2, 4},
                         .null = {2, 4},
                         .code_sums = pictures_.narrow(0, std::ssize(prompts), 1)});
    }
    return draw_codes(model_, kDrawing, prompts, books_, uniforms_, options);
  }
  // The most likely code at every place where those before it are `codes`, from one full pass; by
  // the logits of the prompt, of its picture alone and of the null prompt, weighted.
  at::Tensor likeliest(int64_t b, const at::Tensor& codes, const std::vector<int64_t>& ids,
                       const std::vector<double>& weights) {
    const std::vector<std::vector<int64_t>> prompts = {ids, {kPicture, 2, 4}, {2, 4}};
    at::Tensor sum;
    for (size_t k = 0; k < weights.size(); ++k) {
      const at::Tensor logits = weights[k] * full_logits(prompts[k], pictures_[b], codes);
      sum = sum.defined() ? sum + logits : logits;
    }
    return sum.argmax(-1).t();
  }
  // Logits (S, P, K) of drawing `codes` (P, S) after `ids`.
  at::Tensor full_logits(const std::vector<int64_t>& ids, const at::Tensor& picture,
                         const at::Tensor& codes) {
    const torch::NoGradGuard no_grad;
    std::vector<at::Tensor> vectors;
    for (int64_t s = 0; s < 3; ++s)
      vectors.push_back(books_[s].index_select(0, codes.select(1, s)));
    const auto sums = torch::stack(vectors).cumsum(0);  // (S, P, C)
    std::vector<int64_t> texts, sources, positions;
    std::vector<at::Tensor> inputs;
    const auto count =
        static_cast<int64_t>(ids.size() - std::count(ids.begin(), ids.end(), kPicture));
    const auto add_picture = [&](const at::Tensor& of, int64_t length) {
      sources.push_back(kBeginOfImage);
      for (int64_t p = 0; p < length; ++p) {
        sources.push_back(kFirstText + count + std::ssize(positions));
        positions.push_back(p);
      }
      inputs.push_back(of.narrow(0, 0, length));
    };
    for (const int64_t id : ids) {
      if (id == kPicture) {
        add_picture(picture, 6);
        sources.push_back(kEndOfImage);
      } else {
        sources.push_back(kFirstText + std::ssize(texts));
        texts.push_back(id);
      }
    }
    add_picture(sums[2], 5);
    TokenRows rows;
    rows.text_ids = torch::tensor(texts, torch::kLong);
    rows.code_sums = torch::cat(inputs);
    rows.positions = torch::tensor(positions, torch::kLong);
    rows.sources = torch::tensor(sources, torch::kLong);
    rows.mask = AttentionMask::from_lengths({std::ssize(sources)});
    const auto hidden = model_->hidden(rows, kDrawing).narrow(0, std::ssize(sources) - 6, 6);
    return model_->depth(kDrawing)->forward(hidden, sums.narrow(0, 0, 2));
  }
  YModel model_{nullptr};
  at::Tensor books_, uniforms_;
  at::Tensor pictures_ = torch::randn({2, 6, 8});
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
  for (int64_t b = 0; b < 2; ++b) {
    const auto logits = full_logits(prompts[static_cast<size_t>(b)], {}, codes[b]);
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

TEST_F(Drawing, AfterPicturesGivesTheCodesOfAFullForward) {
  const auto codes = draw_after_pictures({.guidance = 1.0, .temperature = 0});
  EXPECT_TRUE(torch::equal(likeliest(0, codes[0], {kPicture, 5, 4}, {1}), codes[0]));
  EXPECT_TRUE(torch::equal(likeliest(1, codes[1], {3, kPicture, 7, 8, 9, 4}, {1}), codes[1]));
}

// u + i (p - u) + t (c - p), with t = 3 for the text and i = 2 for the picture.
TEST_F(Drawing, IsGuidedByPicturesAndByTextsEachAsMuchAsAsked) {
  const auto codes =
      draw_after_pictures({.guidance = 3.0, .picture_guidance = 2.0, .temperature = 0});
  for (int64_t b = 0; b < 2; ++b) {
    const std::vector<int64_t> ids = b == 0 ? std::vector<int64_t>{kPicture, 5, 4}
                                            : std::vector<int64_t>{3, kPicture, 7, 8, 9, 4};
    EXPECT_TRUE(torch::equal(likeliest(b, codes[b], ids, {3, -1, -1}), codes[b])) << b;
  }
  const auto together = draw_after_pictures({.guidance = 3.0, .temperature = 0});
  EXPECT_TRUE(torch::equal(likeliest(0, together[0], {kPicture, 5, 4}, {3, 0, -2}), together[0]));
  EXPECT_FALSE(torch::equal(together, codes));
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
