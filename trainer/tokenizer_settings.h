#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "trainer/config/settings.h"

namespace espalier {

// The `[tokenizer]` table: the image tokenizer and how it is trained.
struct TokenizerConfig {
  int64_t latent_size = 8;
  int64_t latent_channels = 32;
  int64_t codebook_size = 256;
  int64_t pixel_stages = 4;
  int64_t semantic_stages = 2;
  int64_t width = 64;
  int64_t encoder_blocks = 3;
  int64_t decoder_blocks = 3;
  int64_t masked_width = 64;
  double codebook_decay = 0.98;
  double restart_below = 1.0;
  double all_pixel_stages = 0.5;
  double all_stages = 0.7;
  double mask_ratio = 0.75;
  bool flip = true;
};

void declare_tokenizer_settings(Settings& settings, TokenizerConfig& config);

// Names and default weights of the losses and tasks of a stage of kind "tokenizer".
std::map<std::string, double> tokenizer_losses();
std::map<std::string, double> tokenizer_tasks();

}  // namespace espalier
