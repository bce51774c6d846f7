#include "trainer/models/world_model_settings.h"

#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/models/divides.h"

namespace espalier {
namespace {

constexpr int64_t kMlpRatio = 4;
constexpr double kMost = 65536;

SettingSpec count_of(const std::string& help, const std::string& unit, double min) {
  return {.help = help, .unit = unit, .min = min, .max = kMost};
}

}  // namespace

// Tables below this one come last: the resolved file is written in the order of declaration.
void WorldModelSettings::declare(SettingsScope scope) {
  scope.add("episodes", episodes, {.help = "Name of the episodes whose world it models."});
  scope.add("mask", mask, {.help = "Mask file: where its tokens lie and who sees whom."});
  scope.add("mask_settings", mask_settings,
            {.help = "Settings of the mask file, such as \"only_observation=true\"; numbers of "
                     "tokens and timesteps follow from the model."});
  scope.add("width", width, count_of("Width of the trunk.", "channels", 8));
  scope.add("layers", layers, count_of("Layers of the trunk.", "layers", 0));
  scope.add("heads", heads,
            count_of("Attention heads of the trunk; must divide its width.", "heads", 1));
  scope.add(
      "timesteps", timesteps,
      count_of("Steps of an episode that it sees at once, the present one the last.", "steps", 1));
  scope.add("patch", patch,
            count_of("Side of the patches in which images are read and dreamt; must divide the "
                     "side of the images.",
                     "pixels", 1));
  scope.add("max_words", max_words, count_of("Longest instruction.", "words", 1));
  scope.add("share_query", share_query,
            {.help = "One set of queries for all kinds of dreams, which split its channels."});
  scope.add("semantic_channels", semantic_channels,
            count_of("Channels of the teacher's features, or kinds of objects in the simulator's "
                     "segmentation.",
                     "channels", 1));
  scope.add("semantic_side", semantic_side,
            count_of("Side of the square map of semantic features.", "positions", 1));
  scope.add("action_queries", action_queries,
            count_of("Actions of a chunk, the present one and those after it.", "actions", 1));
  scope.add("action_head", action_head,
            {.help = "How actions come from their queries: a diffusion transformer that predicts "
                     "noise, one that predicts a flow, or one linear.",
             .choices = {"diffusion", "flow", "direct"}});
  declare_encoders(scope);
  declare_dreams(scope);
  declare_diffusion(scope.below("diffusion"));
}

void WorldModelSettings::declare_encoders(SettingsScope scope) {
  SettingsScope encoder = scope.below("encoder");
  encoder.add("width", encoder_width,
              count_of("Width of the image encoder; divisible by 4.", "channels", 8));
  encoder.add("blocks", encoder_blocks, count_of("Layers of the image encoder.", "layers", 0));
  encoder.add("heads", encoder_heads,
              count_of("Attention heads of the image encoder; must divide its width.", "heads", 1));
  SettingsScope resampler = scope.below("resampler");
  resampler.add(
      "latents", latents,
      count_of(
          "Tokens that are made of an image, beside a pooled one; 0 = its patches come into the "
          "trunk as they are.",
          "tokens", 0));
  resampler.add("depth", resampler_depth, count_of("Layers of the resampler.", "layers", 1));
  resampler.add("heads", resampler_heads,
                count_of("Attention heads of the resampler.", "heads", 1));
  resampler.add("head_width", resampler_head_width,
                count_of("Width of a head of the resampler.", "channels", 1));
}

void WorldModelSettings::declare_dreams(SettingsScope scope) {
  SettingsScope queries = scope.below("queries");
  queries.add("dynamic", dynamic,
              count_of("Queries of a view that dream of what moves; 0 = off.", "tokens", 0));
  queries.add("depth", depth, count_of("Queries of a view that dream of depth.", "tokens", 0));
  queries.add("semantic", semantic,
              count_of("Queries of a view that dream of a teacher's features, or of what objects "
                       "are where.",
                       "tokens", 0));
  queries.add("trajectory", trajectory,
              count_of("Queries of a view that dream of how points move.", "tokens", 0));
  SettingsScope decoder = scope.below("decoder");
  decoder.add("width", decoder_width,
              count_of("Width of the decoders of dreams; divisible by 4.", "channels", 8));
  decoder.add("heads", decoder_heads,
              count_of("Attention heads of the decoders; must divide their width.", "heads", 1));
  decoder.add("blocks", decoder_blocks, count_of("Layers of each decoder.", "layers", 0));
  decoder.add("depth_output", depth_output,
              {.help = "How depth stays positive; relu, as published, can die.",
               .choices = {"softplus", "relu"}});
}

void WorldModelSettings::declare_diffusion(SettingsScope diffusion) {
  diffusion.add("width", diffusion_width,
                count_of("Width of the diffusion transformer.", "channels", 8));
  diffusion.add("layers", diffusion_layers,
                count_of("Layers of the diffusion transformer.", "layers", 1));
  diffusion.add("heads", diffusion_heads,
                count_of("Its attention heads; must divide its width.", "heads", 1));
  diffusion.add("steps", diffusion_steps,
                count_of("Steps of the noise that training draws from.", "steps", 1));
  diffusion.add("time_scale", time_scale,
                {.help = "Multiplies times before their sinusoid; 1000 suits a flow, whose times "
                         "lie between 0 and 1.",
                 .min = 1e-3,
                 .max = 1e6});
  diffusion.add("zero_output", zero_output,
                {.help = "Start by predicting zero; the published training does not."});
  diffusion.add("sampling_steps", sampling_steps,
                count_of("Steps in which an action is drawn; a divisor of diffusion.steps unless "
                         "the head is a flow.",
                         "steps", 1));
  diffusion.add("guidance", guidance,
                {.help = "Classifier-free guidance of drawn actions; 1 = none. A flow has none.",
                 .min = 0,
                 .max = 100});
}

void WorldModelSettings::validate(const RunConfig& config, const std::string& where) const {
  config.episodes_named(episodes, where + ".episodes");
  check_divides(where, "width", width, "heads", heads);
  check_divides(where, "encoder.width", encoder_width, "encoder.heads", encoder_heads);
  check_divides(where, "decoder.width", decoder_width, "decoder.heads", decoder_heads);
  check_divides(where, "diffusion.width", diffusion_width, "diffusion.heads", diffusion_heads);
  for (const auto& [name, size] : {std::pair<std::string, int64_t>{"encoder.width", encoder_width},
                                   {"decoder.width", decoder_width}}) {
    if (size % 4 == 0) continue;
    throw ConfigError(where + "." + name + " = " + std::to_string(size) +
                      " is no multiple of 4, which its positions need");
  }
  if (action_head == "diffusion") {
    check_divides(where, "diffusion.steps", diffusion_steps, "diffusion.sampling_steps",
                  sampling_steps);
  }
  if (!share_query) return;
  int64_t kinds = 0, tokens = 0;
  for (const std::string& kind : dream_kinds()) {
    const int64_t queries = queries_of(kind);
    if (queries == 0) continue;
    if (tokens != 0 && queries != tokens) {
      throw ConfigError(where + ".share_query: kinds that share queries have as many of them; " +
                        kind + " has " + std::to_string(queries) + ", another " +
                        std::to_string(tokens));
    }
    tokens = queries;
    ++kinds;
  }
  if (kinds > 0) check_divides(where, "width", width, "share_query, kinds of dreams", kinds);
}

double WorldModelSettings::least_numbers() const {
  // Attention has four matrices of width x width, the feed-forward 2 kMlpRatio.
  const auto layers_of = [](int64_t count, int64_t channels) {
    const auto side = static_cast<double>(channels);
    return static_cast<double>(count) * (4 + 2 * kMlpRatio) * side * side;
  };
  double numbers = layers_of(layers, width) + layers_of(encoder_blocks, encoder_width);
  if (action_head != "direct") numbers += layers_of(diffusion_layers, diffusion_width);
  for (const std::string& kind : dream_kinds()) {
    if (queries_of(kind) > 0) numbers += layers_of(decoder_blocks, decoder_width);
  }
  return numbers;
}

int64_t WorldModelSettings::queries_of(const std::string& kind) const {
  if (kind == "dynamic") return dynamic;
  if (kind == "depth") return depth;
  return kind == "semantic" ? semantic : trajectory;
}

DreamOptions WorldModelSettings::dream_options(const std::string& kind, const EpisodeIndex& index,
                                               const std::string& where) const {
  const int64_t side = index.height / patch;
  DreamOptions dream{.kind = kind,
                     .views = std::ssize(index.views),
                     .decoder = {.queries = queries_of(kind),
                                 .width = decoder_width,
                                 .heads = decoder_heads,
                                 .blocks = decoder_blocks,
                                 .mlp_width = kMlpRatio * decoder_width,
                                 .patches = side * side,
                                 .patch_width = 3 * patch * patch}};
  if (kind == "semantic") {
    dream.decoder.patches = semantic_side * semantic_side;
    dream.decoder.patch_width = semantic_channels;
  }
  if (kind == "trajectory") {
    const EpisodeTrajectories& moves = index.trajectories;
    if (moves.views.empty() || patch % moves.cell != 0) {
      throw ConfigError(where + ".queries.trajectory = " + std::to_string(trajectory) +
                        ": the episodes of " + index.path +
                        (moves.views.empty()
                             ? " have no trajectories"
                             : " have trajectories of cells of " + std::to_string(moves.cell) +
                                   " pixels, of which the patch is no multiple") +
                        "; set it to 0, or take other episodes");
    }
    dream.views = std::ssize(moves.views);
    dream.decoder.patch_width = 2 * (patch / moves.cell) * (patch / moves.cell);
  }
  if (kind != "depth") return dream;
  if (index.depth_views.empty()) {
    throw ConfigError(where + ".queries.depth = " + std::to_string(depth) + ": the episodes of " +
                      index.path + " have no depth; set it to 0, or take other episodes");
  }
  dream.views = std::ssize(index.depth_views);
  dream.decoder.patch_width = patch * patch;
  dream.decoder.output = depth_output == "relu" ? DreamOutput::kRelu : DreamOutput::kSoftplus;
  return dream;
}

WorldNetworkOptions WorldModelSettings::network_options(const EpisodeIndex& index,
                                                        const std::string& where) const {
  if (index.height != index.width || index.height % patch != 0) {
    throw ConfigError(where + ".patch = " + std::to_string(patch) + ": the images of " +
                      index.path + " are " + std::to_string(index.width) + " x " +
                      std::to_string(index.height) +
                      " pixels; they must be square, and the patch divide their side");
  }
  WorldNetworkOptions o;
  o.views = std::ssize(index.views);
  o.state_size = index.state_size();
  o.instruction = {.vocabulary_size = std::ssize(index.words) + 1,  // and one for all others
                   .longest = max_words,
                   .width = width,
                   .heads = heads,
                   .mlp_width = kMlpRatio * width};
  o.image = {.image_size = index.height,
             .patch = patch,
             .width = encoder_width,
             .blocks = encoder_blocks,
             .heads = encoder_heads,
             .mlp_width = kMlpRatio * encoder_width};
  o.resampler = {.width = encoder_width,
                 .depth = resampler_depth,
                 .heads = resampler_heads,
                 .head_dim = resampler_head_width,
                 .latents = latents,
                 .mlp_ratio = kMlpRatio};
  o.trunk = {.layers = layers,
             .width = width,
             .heads = heads,
             .mlp_width = kMlpRatio * width,
             .timesteps = timesteps};
  for (const std::string& kind : dream_kinds()) {
    if (queries_of(kind) > 0) o.dreams.push_back(dream_options(kind, index, where));
  }
  o.share_query = share_query && !o.dreams.empty();
  for (const DreamOptions& dream : o.dreams) {
    if (!o.share_query || dream.views == o.views) continue;
    throw ConfigError(where + ".share_query: kinds that share queries are of the same views, but " +
                      dream.kind + " is there in " + std::to_string(dream.views) + " of " +
                      std::to_string(o.views) + " (" + index.path + ")");
  }
  o.action_queries = action_queries;
  o.action_size = index.action_size();
  o.head = action_head == "direct" ? ActionHead::kDirect : ActionHead::kDiffusion;
  o.diffusion = {
      .transformer = {.width = diffusion_width,
                      .heads = diffusion_heads,
                      .layers = diffusion_layers,
                      .mlp_width = kMlpRatio * diffusion_width,
                      .time_scale = time_scale,
                      .zero_output = zero_output},
      .target = action_head == "flow" ? DiffusionTarget::kFlow : DiffusionTarget::kEpsilon,
      .diffusion_steps = diffusion_steps};
  return o;
}

WorldLayoutOptions WorldModelSettings::layout_options(const WorldNetworkOptions& network,
                                                      const std::string& where) const {
  WorldLayoutOptions layout{.mask = mask,
                            .sets = mask_settings,
                            .timesteps = timesteps,
                            .observation = network.observation_tokens(),
                            .action = action_queries,
                            .asked_by = where};
  for (const DreamOptions& dream : network.dreams) {
    layout.dreams[dream.kind] = dream.tokens();
    if (network.share_query) break;  // the others look at the same rows
  }
  return layout;
}

}  // namespace espalier
