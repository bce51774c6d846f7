#include "trainer/unified_settings.h"

namespace espalier {

void declare_unified_settings(Settings& settings, UnifiedConfig& config) {
  settings.add(
      "model.width", config.width,
      {.help = "Width of trunk and branches.", .unit = "channels", .min = 8, .max = 65536});
  settings.add(
      "model.heads", config.heads,
      {.help = "Attention heads; must divide the width.", .unit = "heads", .min = 1, .max = 1024});
  settings.add("model.kv_heads", config.kv_heads,
               {.help = "Heads of keys and values; must divide the heads.",
                .unit = "heads",
                .min = 1,
                .max = 1024});
  settings.add("model.feed_forward_width", config.feed_forward_width,
               {.help = "Inner width of the gated feed-forward of a layer.",
                .unit = "channels",
                .min = 8,
                .max = 262144});
  settings.add("model.trunk_layers", config.trunk_layers,
               {.help = "Layers that all tasks share.", .unit = "layers", .min = 0, .max = 1000});
  settings.add("model.understanding_layers", config.understanding_layers,
               {.help = "Layers of the understanding branch after the fork.",
                .unit = "layers",
                .min = 0,
                .max = 1000});
  settings.add("model.generation_layers", config.generation_layers,
               {.help = "Layers of the generation branch after the fork.",
                .unit = "layers",
                .min = 0,
                .max = 1000});
  settings.add("model.depth_width", config.depth_width,
               {.help = "Width of the depth transformer over the codes of one position.",
                .unit = "channels",
                .min = 8,
                .max = 65536});
  settings.add("model.depth_heads", config.depth_heads,
               {.help = "Attention heads of the depth transformer; must divide depth_width.",
                .unit = "heads",
                .min = 1,
                .max = 1024});
  settings.add(
      "model.depth_layers", config.depth_layers,
      {.help = "Layers of the depth transformer.", .unit = "layers", .min = 1, .max = 1000});
  settings.add("model.depth_feed_forward_width", config.depth_feed_forward_width,
               {.help = "Inner width of the feed-forward of the depth transformer.",
                .unit = "channels",
                .min = 8,
                .max = 262144});
  settings.add("model.drawn_samples", config.drawn_samples,
               {.help = "Train drawing on this many training images, evenly spread; 0 = all. The "
                        "other tasks read every image.",
                .unit = "images",
                .min = 0,
                .max = 1e12});
  settings.add(
      "model.condition_dropout", config.condition_dropout,
      {.help = "Share of names replaced by the null condition, so that drawing can be guided.",
       .min = 0,
       .max = 1});
  settings.add("model.guidance", config.guidance,
               {.help = "Classifier-free guidance of drawing; 1 = off, which halves its cost.",
                .min = 0,
                .max = 100});
  settings.add(
      "model.temperature", config.temperature,
      {.help = "Of the draws of codes; 0 = always the most likely.", .min = 0, .max = 100});
  settings.add("model.top_k", config.top_k,
               {.help = "Draw among this many most likely codes; 0 = all.",
                .unit = "codes",
                .min = 0,
                .max = 1000000});
  settings.add("model.top_p", config.top_p,
               {.help = "Draw among the fewest codes whose probabilities reach this sum.",
                .min = 0,
                .max = 1});
}

std::map<std::string, double> unified_losses() {
  return {{"caption", 1.0}, {"group", 1.0}, {"draw", 1.0}};
}

std::map<std::string, double> unified_tasks() {
  return {{"caption", 1.0}, {"group", 1.0}, {"draw", 2.0}};
}

}  // namespace espalier
