#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "trainer/settings.h"

namespace espalier {

// The `[model]` table: the Y-shaped model over text and image codes.
struct UnifiedConfig {
  int64_t width = 256;
  int64_t heads = 4;
  int64_t trunk_layers = 4;
  int64_t branch_layers = 2;
};

void declare_unified_settings(Settings& settings, UnifiedConfig& config);

// Names and default weights of the losses and tasks of a stage of kind "unified".
std::map<std::string, double> unified_losses();
std::map<std::string, double> unified_tasks();

}  // namespace espalier
