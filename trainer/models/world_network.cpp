#include "trainer/models/world_network.h"

namespace espalier {
namespace {

constexpr double kDeviation = 0.02;
constexpr double kHalfOfLevels = 127.5;

// (M, T): rows of the batch in which the tokens of a group lie at each step that exists.
at::Tensor rows_at(const WorldInputs& inputs, const WorldLayout& layout, const std::string& group) {
  const at::Tensor sample = at::floor_divide(inputs.steps, layout.timesteps());
  const at::Tensor timestep = inputs.steps - sample * layout.timesteps();
  return layout.rows_of(group, inputs.steps.device()).index_select(0, timestep) +
         (sample * layout.rows()).unsqueeze(1);
}

at::Tensor pick(const at::Tensor& hidden, const at::Tensor& rows) {
  return hidden.index_select(0, rows.flatten()).view({rows.size(0), rows.size(1), hidden.size(1)});
}

}  // namespace

WorldInputs WorldInputs::to(at::Device device) const {
  const auto move = [&](const at::Tensor& t) { return t.to(device, /*non_blocking=*/true); };
  return {.images = images.defined() ? move(images) : images,
          .observed = observed.defined() ? move(observed) : observed,
          .state = move(state),
          .steps = move(steps),
          .words = move(words),
          .lengths = lengths};
}

WorldNetworkImpl::WorldNetworkImpl(const WorldNetworkOptions& options, const at::Tensor& mean,
                                   const at::Tensor& deviation)
    : options_(options) {
  const int64_t width = options.trunk.width;
  instruction = register_module("instruction", InstructionEncoder(options.instruction));
  image = register_module("image", ImagePatches(options.image));
  if (options.resampler.latents > 0) {
    resampler = register_module("resampler", PerceiverResampler(options.resampler));
  }
  observation_in =
      register_module("observation_in", make_xavier_linear(options.image.width, width));
  state_in = register_module("state_in", make_xavier_linear(options.state_size, width));
  view_position =
      register_parameter("view_position", torch::randn({options.views, width}) * kDeviation);
  state_mean = register_buffer("state_mean", mean.clone());
  state_std = register_buffer("state_std", deviation.clone());
  std::vector<QueryGroup> groups;
  for (const DreamOptions& dream : options.dreams) groups.push_back({dream.kind, dream.tokens()});
  if (!groups.empty()) {
    dream_queries = register_module(
        "dream_queries", QueryTokens(QueryTokensOptions{
                             .width = width, .groups = groups, .share = options.share_query}));
  }
  action_queries = register_module(
      "action_queries", QueryTokens(QueryTokensOptions{
                            .width = width, .groups = {{"action", options.action_queries}}}));
  trunk = register_module("trunk", WorldTrunk(options.trunk));
  for (const DreamOptions& dream : options.dreams) {
    DreamDecoderOptions decoder = dream.decoder;
    decoder.query_width = query_width();
    decoders.push_back(register_module("dream_" + dream.kind, DreamDecoder(decoder)));
  }
  if (options.head == ActionHead::kDirect) {
    direct = register_module("action_direct", make_xavier_linear(width, options.action_size));
    return;
  }
  ActionDiffusionOptions head = options.diffusion;
  head.transformer.condition_width = width;
  head.transformer.action_width = options.action_size;
  head.transformer.chunk = options.action_queries;
  diffusion = register_module("action_diffusion", ActionDiffusion(head));
}

int64_t WorldNetworkImpl::query_width() const {
  return dream_queries ? dream_queries->hidden_width() : options_.trunk.width;
}

at::Tensor WorldNetworkImpl::observe(const at::Tensor& images) {
  const at::Tensor values = images.flatten(0, 1).to(state_mean.scalar_type()) / kHalfOfLevels - 1.0;
  const ImageFeatures seen = image->forward(values);
  const at::Tensor features = resampler ? resampler->forward(seen.patches) : seen.patches;
  const at::Tensor all = at::cat({features, seen.class_token.unsqueeze(1)}, 1);
  const at::Tensor rows = as_residual(observation_in->forward(all.flatten(0, 1)))
                              .view({images.size(0), options_.views, -1, options_.trunk.width});
  return (rows + view_position.unsqueeze(1)).flatten(1, 2);
}

// (B, K, tokens, width): what comes into the trunk, groups in the order of WorldLayout.
at::Tensor WorldNetworkImpl::tokens(const WorldInputs& inputs, int64_t timesteps) {
  const int64_t samples = inputs.samples(), width = options_.trunk.width;
  const auto everywhere = [&](const at::Tensor& of_queries) {
    return of_queries.view({1, 1, -1, width}).expand({samples, timesteps, -1, width});
  };
  const at::Tensor said = as_residual(instruction->forward(inputs.words, inputs.lengths));
  const at::Tensor stands = as_residual(state_in->forward((inputs.state - state_mean) / state_std));
  const at::Tensor seen = inputs.observed.defined() ? inputs.observed : observe(inputs.images);
  const at::Tensor context = at::cat({stands.unsqueeze(1), seen}, 1);
  std::vector<at::Tensor> all = {
      said.view({samples, 1, 1, width}).expand({samples, timesteps, 1, width}),
      // Zeros where there is no step.
      at::zeros({samples * timesteps, context.size(1), width}, context.options())
          .index_copy(0, inputs.steps, context)
          .view({samples, timesteps, -1, width})};
  if (dream_queries) all.push_back(everywhere(dream_queries->forward()));
  all.push_back(everywhere(action_queries->forward()));
  return at::cat(all, 2);
}

at::Tensor WorldNetworkImpl::hidden(const WorldInputs& inputs, WorldLayout& layout) {
  const int64_t samples = inputs.samples(), width = options_.trunk.width;
  at::Tensor rows = tokens(inputs, layout.timesteps()).reshape({samples, layout.rows(), width});
  if (layout.token_of_row().defined()) {
    rows = rows.index_select(1, layout.token_of_row(rows.device()));
  }
  const WorldLayout::Batch& batch = layout.batch(samples, rows.device());
  return trunk->forward(rows.flatten(0, 1), batch.timestep, batch.mask);
}

at::Tensor WorldNetworkImpl::dream(const at::Tensor& hidden, const WorldInputs& inputs,
                                   const WorldLayout& layout, size_t d) {
  // Shared tokens lie where the first kind's would; each kind has its part of their channels.
  const DreamOptions& own = options_.dreams.at(d);
  const std::string& group = options_.share_query ? options_.dreams.front().kind : own.kind;
  at::Tensor rows = pick(hidden, rows_at(inputs, layout, group));
  if (options_.share_query) rows = dream_queries->hidden(rows, d);
  return decoders[d]->forward(
      rows.reshape({rows.size(0) * own.views, own.decoder.queries, query_width()}));
}

at::Tensor WorldNetworkImpl::action_rows(const at::Tensor& hidden, const WorldInputs& inputs,
                                         const WorldLayout& layout) {
  return pick(hidden, rows_at(inputs, layout, "action"));
}

}  // namespace espalier
