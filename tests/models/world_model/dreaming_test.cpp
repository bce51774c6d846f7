// Trunk, query tokens and dream decoders, beyond what published_model_test.cpp compares.
#include <gtest/gtest.h>

#include "models/world_model/dream_decoder.h"
#include "models/world_model/query_tokens.h"
#include "models/world_model/world_trunk.h"
#include "tests/models/close.h"
#include "tests/models/finite_differences.h"

namespace espalier {
namespace {

constexpr int64_t kWidth = 32;

DreamDecoderOptions small_decoder() {
  return {.query_width = kWidth,
          .queries = 4,
          .width = kWidth,
          .heads = 2,
          .blocks = 1,
          .mlp_width = 64,
          .patches = 9,
          .patch_width = 5};
}

TEST(QueryTokens, StartAtZeroAndGiveEachGroupItsRows) {
  QueryTokens queries(
      QueryTokensOptions{.width = kWidth, .groups = {{"dynamic", 2}, {"depth", 3}, {"action", 1}}});
  EXPECT_EQ(queries->rows(), 6);
  EXPECT_EQ(queries->forward().abs().sum().item<double>(), 0);
  const auto hidden = torch::randn({4, 6, kWidth});
  EXPECT_TRUE(torch::equal(queries->hidden(hidden, 1), hidden.slice(1, 2, 5)));
  queries->hidden(queries->forward().unsqueeze(0) + 1, 1).sum().backward();
  EXPECT_EQ(queries->named_parameters()["dynamic"].grad().abs().sum().item<double>(), 0);
  EXPECT_GT(queries->named_parameters()["depth"].grad().abs().sum().item<double>(), 0);
}

TEST(QueryTokens, SharedOnesGiveEachKindAPartOfTheWidth) {
  QueryTokens queries(QueryTokensOptions{
      .width = kWidth, .groups = {{"a", 3}, {"b", 3}, {"c", 3}, {"d", 3}}, .share = true});
  EXPECT_EQ(queries->rows(), 3);
  EXPECT_EQ(queries->hidden_width(), 8);
  const auto hidden = torch::randn({2, 3, kWidth});
  EXPECT_TRUE(torch::equal(queries->hidden(hidden, 2), hidden.slice(2, 16, 24)));
}

TEST(QueryTokens, SharedGroupsOfDifferentSizeAreNamed) {
  try {
    QueryTokens(QueryTokensOptions{.width = kWidth, .groups = {{"a", 3}, {"b", 4}}, .share = true});
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_NE(message.find("got 4 in 'b' and 3 in 'a'"), std::string::npos) << message;
  }
}

TEST(DreamDecoder, GradientsAreFiniteDifferencesForEveryOutput) {
  for (const DreamOutput output : {DreamOutput::kLinear, DreamOutput::kSoftplus}) {
    torch::manual_seed(4);
    DreamDecoderOptions options = small_decoder();
    options.output = output;
    DreamDecoder decoder(options);
    decoder->to(torch::kDouble);
    const auto queries = torch::randn({2, 4, kWidth}, torch::kDouble).requires_grad_();
    const auto to = torch::randn({2, 9, 5}, torch::kDouble);
    auto tensors = decoder->parameters();
    tensors.push_back(queries);
    expect_finite_differences(tensors, [&] { return (decoder->forward(queries) * to).sum(); });
  }
}

TEST(DreamDecoder, WithoutPositionsDrawsAllPatchesAlike) {
  torch::manual_seed(5);
  DreamDecoderOptions options = small_decoder();
  const auto queries = torch::randn({2, 4, kWidth});
  const auto spread = [&] {
    return DreamDecoder(options)->forward(queries).std(1).max().item<double>();
  };
  EXPECT_GT(spread(), 0.05);
  options.positions = false;  // the published decoder of SAM features
  EXPECT_LT(spread(), 1e-6);
}

TEST(DreamDecoder, ImagesDoNotSeeEachOtherAndDepthIsPositive) {
  torch::manual_seed(6);
  DreamDecoderOptions options = small_decoder();
  options.output = DreamOutput::kSoftplus;
  DreamDecoder decoder(options);
  const auto queries = torch::randn({3, 4, kWidth});
  const auto drawn = decoder->forward(queries);
  EXPECT_GT(drawn.min().item<double>(), 0);
  EXPECT_TRUE(are_close(decoder->forward(queries.slice(0, 1, 2))[0], drawn[1], 1e-6));
}

TEST(WorldTrunk, GradientsAreFiniteDifferencesWithAndWithoutEmbeddingNorm) {
  for (const bool embedding_norm : {true, false}) {
    torch::manual_seed(7);
    WorldTrunk trunk(WorldTrunkOptions{.layers = 2,
                                       .width = kWidth,
                                       .heads = 2,
                                       .mlp_width = 64,
                                       .timesteps = 3,
                                       .embedding_norm = embedding_norm});
    trunk->to(torch::kDouble);
    const auto mask = AttentionMask::from_lengths({4, 2});
    const auto timestep = torch::tensor({0, 0, 1, 1, 0, 2}, torch::kLong);
    const auto rows = torch::randn({6, kWidth}, torch::kDouble).requires_grad_();
    const auto to = torch::randn({6, kWidth}, torch::kDouble);
    auto tensors = trunk->parameters();
    tensors.push_back(rows);
    expect_finite_differences(tensors,
                              [&] { return (trunk->forward(rows, timestep, mask) * to).sum(); });
  }
}

// One position per timestep: inside a step only the mask tells rows apart.
TEST(WorldTrunk, KnowsTheStepOfARowButNotItsPlaceInTheStep) {
  torch::manual_seed(8);
  WorldTrunk trunk(
      WorldTrunkOptions{.layers = 1, .width = kWidth, .heads = 2, .mlp_width = 64, .timesteps = 2});
  const auto mask = AttentionMask::from_lengths({4}, MaskRule::kFull);
  const auto rows = torch::randn({4, kWidth});
  const auto steps = torch::tensor({0, 0, 1, 1}, torch::kLong);
  const auto order = torch::tensor({1, 0, 2, 3}, torch::kLong);
  const auto out = trunk->forward(rows, steps, mask);
  EXPECT_TRUE(are_close(trunk->forward(rows.index_select(0, order), steps, mask),
                        out.index_select(0, order), 1e-5));
  EXPECT_FALSE(torch::allclose(trunk->forward(rows, steps.flip({0}), mask), out, 0, 1e-3));
}

}  // namespace
}  // namespace espalier
