#include "trainer/tokenizer_settings.h"

namespace espalier {

void declare_tokenizer_settings(Settings& settings, TokenizerConfig& config) {
  const auto add = [&](const char* name, auto& field, SettingSpec spec) {
    settings.add(std::string("tokenizer.") + name, field, std::move(spec));
  };
  add("latent_size", config.latent_size,
      {.help = "Side of the square latent; data.image_size must be 4 times this.",
       .unit = "positions",
       .min = 1,
       .max = 64});
  add("latent_channels", config.latent_channels,
      {.help = "Length of a code vector.", .unit = "channels", .min = 1, .max = 4096});
  add("codebook_size", config.codebook_size,
      {.help = "Codes per stage of the residual quantizer.",
       .unit = "codes",
       .min = 2,
       .max = 65536});
  add("pixel_stages", config.pixel_stages,
      {.help = "Early residual stages, from which the pixel decoder reads.",
       .unit = "stages",
       .min = 1,
       .max = 32});
  add("semantic_stages", config.semantic_stages,
      {.help = "Deeper residual stages, supervised by the teacher.",
       .unit = "stages",
       .min = 0,
       .max = 32});
  add("width", config.width,
      {.help = "Channels at half resolution; the latent's resolution has twice as many.",
       .unit = "channels",
       .min = 8,
       .max = 4096});
  add("encoder_blocks", config.encoder_blocks,
      {.help = "Residual blocks of the encoder at the latent's resolution.", .min = 0, .max = 100});
  add("decoder_blocks", config.decoder_blocks,
      {.help = "Residual blocks of the pixel decoder at the latent's resolution.",
       .min = 0,
       .max = 100});
  add("mae_width", config.mae_width,
      {.help = "Channels of the light decoder of masked patches.",
       .unit = "channels",
       .min = 8,
       .max = 4096});
  add("codebook_decay", config.codebook_decay,
      {.help = "Decay per step of the averages that codebooks are made of.",
       .min = 0,
       .max = 0.9999});
}

std::map<std::string, double> tokenizer_losses() {
  return {{"pixel", 1.0}, {"commitment", 0.25}, {"semantic", 0.1}, {"mimic", 0.1}};
}

std::map<std::string, double> tokenizer_tasks() { return {{"reconstruct", 1.0}}; }

}  // namespace espalier
