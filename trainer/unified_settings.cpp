#include "trainer/unified_settings.h"

namespace espalier {

void declare_unified_settings(Settings& settings, UnifiedConfig& config) {
  const auto add = [&](const char* name, auto& field, SettingSpec spec) {
    settings.add(std::string("model.") + name, field, std::move(spec));
  };
  add("width", config.width,
      {.help = "Width of trunk and branches.", .unit = "channels", .min = 8, .max = 65536});
  add("heads", config.heads,
      {.help = "Attention heads; must divide the width.", .unit = "heads", .min = 1, .max = 1024});
  add("kv_heads", config.kv_heads,
      {.help = "Heads of keys and values; must divide the heads.",
       .unit = "heads",
       .min = 1,
       .max = 1024});
  add("feed_forward_width", config.feed_forward_width,
      {.help = "Inner width of the gated feed-forward of a layer.",
       .unit = "channels",
       .min = 8,
       .max = 262144});
  add("trunk_layers", config.trunk_layers,
      {.help = "Layers that all tasks share.", .unit = "layers", .min = 0, .max = 1000});
  add("understanding_layers", config.understanding_layers,
      {.help = "Layers of the understanding branch after the fork.",
       .unit = "layers",
       .min = 0,
       .max = 1000});
  add("generation_layers", config.generation_layers,
      {.help = "Layers of the generation branch after the fork.",
       .unit = "layers",
       .min = 0,
       .max = 1000});
  add("depth_width", config.depth_width,
      {.help = "Width of the depth transformer over the codes of one position.",
       .unit = "channels",
       .min = 8,
       .max = 65536});
  add("depth_heads", config.depth_heads,
      {.help = "Attention heads of the depth transformer; must divide depth_width.",
       .unit = "heads",
       .min = 1,
       .max = 1024});
  add("depth_layers", config.depth_layers,
      {.help = "Layers of the depth transformer.", .unit = "layers", .min = 1, .max = 1000});
  add("depth_feed_forward_width", config.depth_feed_forward_width,
      {.help = "Inner width of the feed-forward of the depth transformer.",
       .unit = "channels",
       .min = 8,
       .max = 262144});
}

std::map<std::string, double> unified_losses() {
  return {{"caption", 1.0}, {"group", 1.0}, {"draw", 1.0}};
}

std::map<std::string, double> unified_tasks() {
  return {{"caption", 1.0}, {"group", 1.0}, {"draw", 2.0}};
}

}  // namespace espalier
