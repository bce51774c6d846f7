#include "trainer/unified_settings.h"

namespace espalier {

void declare_unified_settings(Settings& settings, UnifiedConfig& config) {
  const auto add = [&](const char* name, auto& field, SettingSpec spec) {
    settings.add(std::string("model.") + name, field, std::move(spec));
  };
  add("width", config.width,
      {.help = "Width of every layer.", .unit = "channels", .min = 8, .max = 65536});
  add("heads", config.heads,
      {.help = "Attention heads; must divide the width.", .unit = "heads", .min = 1, .max = 1024});
  add("trunk_layers", config.trunk_layers,
      {.help = "Layers that all tasks share.", .unit = "layers", .min = 0, .max = 1000});
  add("branch_layers", config.branch_layers,
      {.help = "Layers of each branch after the fork.", .unit = "layers", .min = 0, .max = 1000});
}

std::map<std::string, double> unified_losses() {
  return {{"caption", 1.0}, {"group", 1.0}, {"draw", 1.0}};
}

std::map<std::string, double> unified_tasks() {
  return {{"caption", 1.0}, {"group", 1.0}, {"draw", 2.0}};
}

}  // namespace espalier
