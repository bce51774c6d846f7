#include "models/world_model/perceiver_resampler.h"

#include <gtest/gtest.h>

#include <ATen/autocast_mode.h>

#include "tests/models/close.h"
#include "tests/models/world_model/golden.h"

namespace espalier {
namespace {

PerceiverResampler golden_resampler() {
  PerceiverResampler resampler(
      PerceiverResamplerOptions{.width = 24, .depth = 2, .heads = 3, .head_dim = 8, .latents = 5});
  load_golden(*resampler, "resampler");
  return resampler;
}

TEST(PerceiverResampler, EqualsThePublishedOneWithAllGradients) {
  auto resampler = golden_resampler();
  const at::Tensor media = golden("resampler.media").requires_grad_();
  const at::Tensor out = resampler->forward(media);
  EXPECT_TRUE(are_close(out, golden("resampler.out"), 1e-5));
  (out * golden("resampler.probe")).sum().backward();
  EXPECT_TRUE(are_close(media.grad(), golden("resampler.media_gradient"), 1e-5));
  for (const auto& item : resampler->named_parameters()) {
    EXPECT_TRUE(are_close(item.value().grad(), golden("gradient.resampler." + item.key()), 1e-5))
        << item.key();
  }
}

TEST(PerceiverResampler, TakesAnyNumberOfFeaturesInAnyOrder) {
  auto resampler = golden_resampler();
  const at::Tensor media = golden("resampler.media");
  EXPECT_EQ(resampler->forward(media.slice(1, 0, 3)).sizes(), (std::vector<int64_t>{2, 5, 24}));
  EXPECT_TRUE(are_close(resampler->forward(media.flip({1})), golden("resampler.out"), 1e-5));
}

TEST(PerceiverResampler, Bf16DiffersByItsRoundingOnly) {
  auto resampler = golden_resampler();
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const at::Tensor out = resampler->forward(golden("resampler.media"));
  (out * golden("resampler.probe")).sum().backward();
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(out.scalar_type(), torch::kFloat);
  EXPECT_TRUE(are_close(out, golden("resampler.out"), 3e-2));
  EXPECT_FALSE(are_close(out, golden("resampler.out"), 1e-4)) << "autocast was off";
  EXPECT_TRUE(are_close(resampler->latents.grad(), golden("gradient.resampler.latents"), 6e-2));
}

}  // namespace
}  // namespace espalier
