// The published model from the rows that enter its trunk to the losses and their gradients.
#include <gtest/gtest.h>

#include <ATen/autocast_mode.h>

#include <algorithm>

#include "models/attention/mask_description.h"
#include "models/world_model/action_diffusion.h"
#include "models/world_model/dream_decoder.h"
#include "models/world_model/image_patches.h"
#include "models/world_model/query_tokens.h"
#include "models/world_model/world_losses.h"
#include "models/world_model/world_trunk.h"
#include "tests/models/close.h"
#include "tests/models/world_model/golden.h"

namespace espalier {
namespace {

constexpr int64_t kBatch = 2;
constexpr int64_t kSteps = 2;
constexpr int64_t kWidth = 32;
constexpr int64_t kSeen = 8;
constexpr int64_t kRows = 35;
constexpr int64_t kViews = 2;
constexpr int64_t kQueries = 4;
constexpr int64_t kPatches = 16;
constexpr int64_t kPatch = 8;
constexpr int64_t kImages = kBatch * kSteps;

DreamDecoder make_decoder(int64_t patch_width, DreamOutput output) {
  return DreamDecoder(DreamDecoderOptions{.query_width = kWidth,
                                          .queries = kQueries,
                                          .width = kWidth,
                                          .heads = 16,
                                          .mlp_width = 4 * kWidth,
                                          .patches = kPatches,
                                          .patch_width = patch_width,
                                          .output = output});
}

// Context sees context of its step and before; queries see that, and actions the dreams of their
// step too. No query is seen by anyone else, itself included.
AttentionMask published_mask() {
  const SightRule context{.groups = {"context"}, .from = -kAlways, .to = 0};
  const SightRule past{.groups = {"context"}, .from = -kAlways, .to = -1};
  const SightRule dreams{.groups = {"dynamic", "depth", "track"}};
  const auto query = [&](const char* name, int64_t tokens) {
    return TokenGroup{.name = name, .kind = GroupKind::kQuery, .tokens = tokens, .sees = {context}};
  };
  TokenGroup action = query("action", 3);
  action.sees.push_back(dreams);
  return lay_out({.timesteps = kSteps,
                  .groups = {{.name = "context", .tokens = kSeen, .sees = {past}},
                             query("dynamic", 8),
                             query("depth", 8),
                             query("track", 8),
                             action}})
      .mask;
}

class PublishedModel : public testing::Test {
 protected:
  PublishedModel() {
    for (const auto& [name, module] : modules_) load_golden(*module, name);
    // Everyone sees everyone of its sequence, as in the golden run.
    mask_ = AttentionMask::from_lengths({kSteps * kRows, kSteps * kRows}, MaskRule::kFull);
    const at::Tensor seen = golden("rows").slice(2, 0, kSeen);
    const at::Tensor asked = queries_->forward().expand({kBatch, kSteps, -1, -1});
    rows_ = at::cat({seen, asked}, 2).view({-1, kWidth});
    timestep_ = at::arange(kSteps).repeat_interleave(kRows).repeat({kBatch});
  }

  at::Tensor hidden() { return trunk_->forward(rows_, timestep_, mask_); }
  // (images, views, patches, out)
  at::Tensor dream(const at::Tensor& hidden, DreamDecoder& decoder, size_t group) {
    const at::Tensor asked = hidden.view({kImages, kRows, kWidth}).slice(1, kSeen);
    const at::Tensor of_group = queries_->hidden(asked, group);
    return decoder->forward(of_group.reshape({kImages * kViews, kQueries, kWidth}))
        .view({kImages, kViews, kPatches, -1});
  }
  at::Tensor action_loss(const at::Tensor& hidden) {
    const at::Tensor asked = hidden.view({kImages, kRows, kWidth}).slice(1, kSeen);
    const DiffusionDraws draws{golden("draws.noise"), golden_world_model().at("draws.time"),
                               golden("draws.dropped").to(torch::kBool)};
    return action_->loss(golden("actions").flatten(0, 1), queries_->hidden(asked, 3), draws) /
           draws.noise.numel();
  }

  WorldTrunk trunk_{WorldTrunkOptions{
      .layers = 2, .width = kWidth, .heads = 2, .mlp_width = 4 * kWidth, .timesteps = kSteps}};
  QueryTokens queries_{QueryTokensOptions{
      .width = kWidth, .groups = {{"dynamic", 8}, {"depth", 8}, {"track", 8}, {"action", 3}}}};
  DreamDecoder image_ = make_decoder(kPatch * kPatch * 3, DreamOutput::kLinear);
  DreamDecoder depth_ = make_decoder(kPatch * kPatch, DreamOutput::kRelu);
  DreamDecoder track_ = make_decoder(8, DreamOutput::kLinear);
  ActionDiffusion action_{ActionDiffusionOptions{.transformer = {.condition_width = kWidth,
                                                                 .width = kWidth,
                                                                 .heads = 2,
                                                                 .layers = 2,
                                                                 .mlp_width = 4 * kWidth}}};
  std::vector<std::pair<std::string, torch::nn::Module*>> modules_ = {
      {"trunk", trunk_.get()}, {"queries", queries_.get()}, {"image", image_.get()},
      {"depth", depth_.get()}, {"track", track_.get()},     {"dit", action_->transformer.get()}};
  AttentionMask mask_;
  at::Tensor rows_, timestep_;
};

TEST_F(PublishedModel, FixedPositionsAreThoseOfTheDecoders) {
  EXPECT_TRUE(are_close(image_->position, golden("position.image"), 1e-6));
  EXPECT_TRUE(are_close(depth_->position, golden("position.depth"), 1e-6));
}

TEST_F(PublishedModel, HiddenRowsAndDreamsAreEqual) {
  EXPECT_TRUE(are_close(rows_.view({kBatch, kSteps, kRows, kWidth}), golden("rows"), 1e-6));
  const at::Tensor rows = hidden();
  EXPECT_TRUE(are_close(rows.view({kBatch, kSteps * kRows, kWidth}),
                        golden("hidden").view({kBatch, kSteps * kRows, kWidth}), 1e-5));
  EXPECT_TRUE(are_close(dream(rows, image_, 0), golden("out.image"), 2e-5));
  EXPECT_TRUE(are_close(dream(rows, depth_, 1), golden("out.depth"), 2e-5));
  EXPECT_TRUE(are_close(dream(rows, track_, 2), golden("out.track"), 2e-5));
}

TEST_F(PublishedModel, HiddenRowsUnderThePublishedMaskAreEqual) {
  const AttentionMask mask = published_mask();
  EXPECT_TRUE(torch::equal(mask.dense(), golden("structured.mask").to(torch::kBool)));
  const at::Tensor got = trunk_->forward(rows_, timestep_, mask.repeated(kBatch));
  const at::Tensor expected = golden("structured.hidden");
  EXPECT_TRUE(are_close(got.view_as(expected), expected, 1e-5));
}

// At any depth, to the last bit.
TEST_F(PublishedModel, AQueryReachesItselfAndTheActionsOfItsStepAlone) {
  const torch::NoGradGuard no_gradient;
  const AttentionMask mask = published_mask().repeated(kBatch);
  constexpr int64_t kFirstDepth = kSeen + 8;  // of the first step of the first sequence
  constexpr int64_t kFirstAction = kSeen + 24;
  at::Tensor other = rows_.clone();
  other[kFirstDepth].normal_();
  const at::Tensor changed =
      trunk_->forward(rows_, timestep_, mask).ne(trunk_->forward(other, timestep_, mask)).any(1);
  at::Tensor expected = torch::zeros({rows_.size(0)}, torch::kBool);
  expected[kFirstDepth] = true;
  expected.slice(0, kFirstAction, kFirstAction + 3).fill_(true);
  EXPECT_TRUE(torch::equal(changed, expected)) << changed.nonzero().flatten();
}

TEST_F(PublishedModel, PixelTargetsAreEqual) {
  const at::Tensor target = normalised_patches(golden("levels") / 255, kPatch);
  EXPECT_TRUE(are_close(target.slice(0, 0, kViews), golden("image_target"), 1e-5));
}

TEST_F(PublishedModel, LossesAndAllGradientsAreEqual) {
  const at::Tensor rows = hidden();
  rows.retain_grad();
  const at::Tensor image = dream(rows, image_, 0), depth = dream(rows, depth_, 1),
                   track = dream(rows, track_, 2);
  const at::Tensor pixels = normalised_patches(golden("levels") / 255, kPatch).view_as(image);
  at::Tensor image_loss = torch::zeros({}), depth_loss = image_loss, track_loss = image_loss;
  for (int64_t view = 0; view < kViews; ++view) {
    const auto of_view = [&](const at::Tensor& t) { return t.select(1, view); };
    const at::Tensor region = of_view(golden("image_mask"));
    image_loss = image_loss + 0.5 * masked_squared_error(of_view(image), of_view(pixels), region) /
                                  masked_count(region, image.size(3), MaskedMean::kAllElements);
    // The whole batch is one row in the published depth loss.
    depth_loss = depth_loss + 0.5 * silog(of_view(depth).reshape({1, -1}),
                                          of_view(golden("depth_target")).reshape({1, -1}));
    track_loss =
        track_loss + trajectory_error(of_view(track), of_view(golden("track_target")), true) /
                         of_view(track).numel();
  }
  const at::Tensor action = action_loss(rows);
  EXPECT_TRUE(are_close(image_loss, golden("loss.image"), 1e-5));
  EXPECT_TRUE(are_close(depth_loss, golden("loss.depth"), 1e-5));
  EXPECT_TRUE(are_close(track_loss, golden("loss.track"), 1e-5));
  EXPECT_TRUE(are_close(action, golden("loss.action"), 1e-5));

  (image_loss + depth_loss + track_loss + action).backward();
  const at::Tensor expected = golden("hidden_gradient");
  EXPECT_TRUE(are_close(rows.grad().view_as(expected), expected, 1e-4));
  int64_t compared = 0;
  for (const auto& [prefix, module] : modules_) {
    for (const auto& item : module->named_parameters()) {
      const std::string name = "gradient." + prefix + "." + item.key();
      if (!golden_world_model().contains(name)) continue;
      // The logarithm of a depth near zero multiplies what rounding leaves.
      EXPECT_TRUE(are_close(item.value().grad(), golden(name), 5e-4)) << name;
      ++compared;
    }
  }
  const auto of_others = [](const auto& item) {
    return item.first.starts_with("gradient.") && !item.first.starts_with("gradient.resampler");
  };
  const auto& all = golden_world_model();
  EXPECT_EQ(compared, std::count_if(all.begin(), all.end(), of_others));
}

TEST_F(PublishedModel, Bf16DiffersByItsRoundingOnly) {
  const torch::NoGradGuard no_gradient;
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const at::Tensor rows = hidden(), image = dream(rows, image_, 0), action = action_loss(rows);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  for (const at::Tensor& t : {rows, image, action}) EXPECT_EQ(t.scalar_type(), torch::kFloat);
  EXPECT_TRUE(are_close(rows.view({kBatch, kSteps, kRows, kWidth}),
                        golden("hidden").view({kBatch, kSteps, kRows, kWidth}), 3e-2));
  EXPECT_TRUE(are_close(image, golden("out.image"), 3e-2));
  EXPECT_TRUE(are_close(action, golden("loss.action"), 3e-2));
  EXPECT_FALSE(are_close(image, golden("out.image"), 1e-4)) << "autocast was off";
}

// A head's loss that is not there changes no other head's gradients, to the last bit.
TEST_F(PublishedModel, LossOfOneHeadLeavesTheGradientsOfOtherHeadsBitEqual) {
  const auto gradients = [&](bool with_depth) {
    for (const auto& [name, module] : modules_) module->zero_grad();
    const at::Tensor rows = hidden();
    at::Tensor loss = dream(rows, image_, 0).square().mean() + action_loss(rows);
    if (with_depth) loss = loss + dream(rows, depth_, 1).square().mean();
    loss.backward();
    std::vector<at::Tensor> of_heads;
    for (const auto& [name, module] : modules_) {
      if (name != "image" && name != "dit") continue;
      for (const at::Tensor& p : module->parameters()) of_heads.push_back(p.grad().clone());
    }
    EXPECT_EQ(depth_->out->weight.grad().defined(), with_depth);
    EXPECT_FALSE(track_->out->weight.grad().defined());
    return of_heads;
  };
  const auto with = gradients(true);
  for (const at::Tensor& p : depth_->parameters()) p.mutable_grad() = at::Tensor();
  const auto without = gradients(false);
  ASSERT_EQ(with.size(), without.size());
  for (size_t i = 0; i < with.size(); ++i) EXPECT_TRUE(torch::equal(with[i], without[i])) << i;
}

}  // namespace
}  // namespace espalier
