#include "trainer/tokenizer_settings.h"

namespace espalier {

void declare_tokenizer_settings(Settings& settings, TokenizerConfig& config) {
  settings.add("tokenizer.latent_size", config.latent_size,
               {.help = "Side of the square latent; data.image_size must be 4 times this.",
                .unit = "positions",
                .min = 2,
                .max = 64});
  settings.add("tokenizer.latent_channels", config.latent_channels,
               {.help = "Length of a code vector.", .unit = "channels", .min = 1, .max = 4096});
  settings.add("tokenizer.codebook_size", config.codebook_size,
               {.help = "Codes per stage of the residual quantizer.",
                .unit = "codes",
                .min = 2,
                .max = 65536});
  settings.add("tokenizer.pixel_stages", config.pixel_stages,
               {.help = "Early residual stages, from which the pixel decoder reads.",
                .unit = "stages",
                .min = 1,
                .max = 32});
  settings.add("tokenizer.semantic_stages", config.semantic_stages,
               {.help = "Deeper residual stages, supervised by the teacher.",
                .unit = "stages",
                .min = 0,
                .max = 32});
  settings.add("tokenizer.width", config.width,
               {.help = "Channels at half resolution; the latent's resolution has twice as many.",
                .unit = "channels",
                .min = 8,
                .max = 4096});
  settings.add(
      "tokenizer.encoder_blocks", config.encoder_blocks,
      {.help = "Residual blocks of the encoder at the latent's resolution.", .min = 0, .max = 100});
  settings.add("tokenizer.decoder_blocks", config.decoder_blocks,
               {.help = "Residual blocks of the pixel decoder at the latent's resolution.",
                .min = 0,
                .max = 100});
  settings.add("tokenizer.masked_width", config.masked_width,
               {.help = "Channels of the light decoder of masked patches.",
                .unit = "channels",
                .min = 8,
                .max = 4096});
  settings.add("tokenizer.codebook_decay", config.codebook_decay,
               {.help = "Decay per step of the averages that codebooks are made of.",
                .min = 0,
                .max = 0.9999});
  settings.add("tokenizer.restart_below", config.restart_below,
               {.help = "A code that fewer vectors per step choose, on average, is restarted.",
                .unit = "vectors",
                .min = 0});
  settings.add(
      "tokenizer.all_pixel_stages", config.all_pixel_stages,
      {.help = "Share of images whose pixel decoder reads every pixel stage; others read fewer.",
       .min = 0,
       .max = 1});
  settings.add(
      "tokenizer.all_stages", config.all_stages,
      {.help = "Share of images whose semantic decoder reads every stage; others any number.",
       .min = 0,
       .max = 1});
  settings.add("tokenizer.mask_ratio", config.mask_ratio,
               {.help = "Share of patches hidden in the masked pass.", .min = 0, .max = 0.99});
  settings.add("tokenizer.flip", config.flip,
               {.help = "Mirror half of the training images left to right."});
}

std::map<std::string, double> tokenizer_losses() {
  return {{"pixel", 1.0},
          {"commitment", 0.25},
          {"semantic", 0.1},
          {"mimic", 0.05},
          {"reconstruct", 1.0}};
}

std::map<std::string, double> tokenizer_tasks() { return {{"reconstruct", 1.0}}; }

}  // namespace espalier
