#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/episodes/episode_index.h"
#include "trainer/config/kind_settings.h"
#include "trainer/models/world_network.h"

namespace espalier {

// [model.NAME] of kind "world_model".
struct WorldModelSettings : KindSettings {
  std::string episodes;
  std::string mask = "configs/masks/dreamvla.toml";
  std::vector<std::string> mask_settings;

  int64_t width = 128, layers = 4, heads = 4, timesteps = 4;
  int64_t patch = 8, encoder_width = 128, encoder_blocks = 2, encoder_heads = 4, max_words = 16;
  int64_t latents = 8, resampler_depth = 1, resampler_heads = 4, resampler_head_width = 32;

  // Queries of one view; 0 = the kind is off.
  int64_t dynamic = 4, depth = 0, semantic = 0, trajectory = 0;
  bool share_query = false;
  int64_t decoder_width = 128, decoder_heads = 4, decoder_blocks = 2;
  std::string depth_output = "softplus";
  int64_t semantic_channels = 1280, semantic_side = 2;

  int64_t action_queries = 3;
  std::string action_head = "diffusion";
  int64_t diffusion_width = 128, diffusion_layers = 3, diffusion_heads = 4, diffusion_steps = 100;
  double time_scale = 1.0;
  bool zero_output = true;
  int64_t sampling_steps = 10;
  double guidance = 1.5;

  void declare(SettingsScope scope) override;
  double least_numbers() const;  // of its layers, without what depends on the episodes
  void validate(const RunConfig& config, const std::string& where) const override;

  int64_t queries_of(const std::string& kind) const;  // of one view
  // Sizes of the network on such episodes; ConfigError when they do not fit. `where` is "model.y".
  WorldNetworkOptions network_options(const EpisodeIndex& index, const std::string& where) const;
  WorldLayoutOptions layout_options(const WorldNetworkOptions& network,
                                    const std::string& where) const;

 private:
  void declare_encoders(SettingsScope scope);
  void declare_dreams(SettingsScope scope);
  void declare_diffusion(SettingsScope diffusion);
  DreamOptions dream_options(const std::string& kind, const EpisodeIndex& index,
                             const std::string& where) const;
};

}  // namespace espalier
