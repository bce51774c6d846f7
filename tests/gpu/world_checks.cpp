// The world model: what is seen and said, through the trunk, to dreams and actions.
#include "models/world_model/world_losses.h"
#include "tests/gpu/module_checks.h"
#include "trainer/models/world_network.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

constexpr int64_t kSide = 32, kPatch = 8, kViews = 2, kTimesteps = 3, kSamples = 4;
constexpr int64_t kWidth = 64, kState = 5, kActions = 7, kChunk = 3, kPatchWidth = 3 * 64;

DreamOptions dream(const std::string& kind) {
  return {.kind = kind,
          .views = kViews,
          .decoder = {.query_width = kWidth,
                      .queries = 4,
                      .width = 32,
                      .heads = 2,
                      .blocks = 1,
                      .mlp_width = 64,
                      .patches = (kSide / kPatch) * (kSide / kPatch),
                      .patch_width = kPatchWidth}};
}

WorldNetworkOptions network_options() {
  WorldNetworkOptions o;
  o.views = kViews;
  o.state_size = kState;
  o.instruction = {
      .vocabulary_size = 20, .longest = 8, .width = kWidth, .heads = 4, .mlp_width = 128};
  o.image = {
      .image_size = kSide, .patch = kPatch, .width = 48, .blocks = 2, .heads = 4, .mlp_width = 96};
  o.resampler = {.width = 48, .depth = 1, .heads = 2, .head_dim = 16, .latents = 4};
  o.trunk = {.layers = 2, .width = kWidth, .heads = 4, .mlp_width = 128, .timesteps = kTimesteps};
  o.dreams = {dream("dynamic"), dream("depth")};
  o.action_queries = kChunk;
  o.action_size = kActions;
  o.diffusion.transformer = {
      .width = 48, .heads = 4, .layers = 2, .mlp_width = 96, .zero_output = false};
  return o;
}

WorldLayoutOptions layout_options(const WorldNetworkOptions& o) {
  WorldLayoutOptions layout{.mask = "configs/masks/dreamvla.toml",
                            .timesteps = kTimesteps,
                            .observation = o.observation_tokens(),
                            .action = o.action_queries,
                            .asked_by = "the check of the world model"};
  for (const DreamOptions& kind : o.dreams) layout.dreams[kind.kind] = kind.tokens();
  return layout;
}

struct Inputs {
  WorldInputs world;
  at::Tensor patches, actions;
  DiffusionDraws draws;
};

Inputs inputs() {
  torch::manual_seed(31);
  // The last window is two steps short.
  const int64_t steps = kSamples * kTimesteps - 2;
  Inputs in;
  in.world = {.images = torch::randint(256, {steps, kViews, 3, kSide, kSide}).to(at::kByte),
              .observed = {},
              .state = torch::randn({steps, kState}),
              .steps = torch::arange(steps, at::kLong),
              .words = torch::randint(1, 20, {kSamples, 8}, at::kLong),
              .lengths = {1, 3, 8, 5}};
  in.patches = torch::randn({steps * kViews, (kSide / kPatch) * (kSide / kPatch), kPatchWidth});
  in.actions = torch::rand({steps, kChunk, kActions}) * 2 - 1;
  in.draws = {.noise = torch::randn({2 * steps, kChunk, kActions}),
              .time = torch::randint(100, {2 * steps}, at::kLong),
              .dropped = torch::rand({2 * steps}) < 0.1};
  return in;
}

struct Outputs {
  at::Tensor hidden, dynamic, depth, dream_loss, action_loss;
};

Outputs forward(WorldNetwork& network, const Inputs& in, at::Device device) {
  WorldLayout layout(layout_options(network->options()));
  const WorldInputs world = in.world.to(device);
  Outputs out;
  out.hidden = network->hidden(world, layout);
  out.dynamic = network->dream(out.hidden, world, layout, 0);
  out.depth = network->dream(out.hidden, world, layout, 1);
  const at::Tensor mask = torch::ones({in.patches.size(0), in.patches.size(1)}).to(device);
  out.dream_loss = masked_squared_error(out.dynamic, in.patches.to(device), mask) +
                   cosine_distance(out.depth.flatten(0, 1), in.patches.to(device).flatten(0, 1));
  const DiffusionDraws draws{.noise = in.draws.noise.to(device),
                             .time = in.draws.time.to(device),
                             .dropped = in.draws.dropped.to(device)};
  out.action_loss = network->diffusion->loss(
      in.actions.to(device), network->action_rows(out.hidden, world, layout), draws);
  return out;
}

// Rows of steps that do not exist mean nothing.
at::Tensor real_rows(const at::Tensor& hidden) {
  const int64_t of_window = hidden.size(0) / kSamples;
  return hidden.narrow(0, 0, (kSamples - 1) * of_window + of_window / kTimesteps);
}

void compare(Closeness& closeness, const Outputs& got, const Outputs& expected) {
  closeness.add("hidden rows", real_rows(got.hidden), real_rows(expected.hidden));
  closeness.add("dreams of what moves", got.dynamic, expected.dynamic);
  closeness.add("dreams of depth", got.depth, expected.depth);
  closeness.add("loss of the dreams", got.dream_loss, expected.dream_loss);
  closeness.add("loss of the actions", got.action_loss, expected.action_loss);
}

}  // namespace

ModuleCheck check_world_model(at::Device device) {
  torch::manual_seed(30);
  const at::Tensor mean = torch::zeros({kState}), deviation = torch::ones({kState});
  WorldNetwork network(network_options(), mean, deviation);
  {
    const torch::NoGradGuard no_grad;  // queries start at zero, all alike
    for (auto& item : network->named_parameters()) {
      if (item.key().find("queries") != std::string::npos) item.value().normal_();
    }
  }
  WorldNetwork other(network_options(), mean, deviation);
  copy_state(*other, *network);
  other->to(device);
  const Inputs in = inputs();
  const Outputs expected = forward(network, in, at::kCPU);
  const Outputs got = forward(other, in, device);
  ModuleCheck check;
  compare(check.fp32, got, expected);
  (expected.dream_loss / 1000 + expected.action_loss / 100).backward();
  (got.dream_loss / 1000 + got.action_loss / 100).backward();
  check.fp32.add_gradients(*other, *network);

  const torch::NoGradGuard no_grad;
  const PrecisionGuard bf16(device.type(), "bf16");
  compare(check.bf16, forward(other, in, device), expected);
  return check;
}

}  // namespace espalier
