#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "trainer/config/settings.h"

namespace espalier {

// The `[model]` table: the Y-shaped model over text and image codes.
struct UnifiedConfig {
  int64_t width = 256;
  int64_t heads = 4;
  int64_t kv_heads = 4;
  int64_t feed_forward_width = 704;
  int64_t trunk_layers = 4;
  int64_t understanding_layers = 2;
  int64_t generation_layers = 2;
  int64_t depth_width = 128;
  int64_t depth_heads = 4;
  int64_t depth_layers = 2;
  int64_t depth_feed_forward_width = 352;
  int64_t drawn_samples = 0;
  double condition_dropout = 0.1;
  double guidance = 2.0;
  double temperature = 0.5;
  int64_t top_k = 0;
  double top_p = 1.0;
};

void declare_unified_settings(Settings& settings, UnifiedConfig& config);

// Names and default weights of the losses and tasks of a stage of kind "unified".
std::map<std::string, double> unified_losses();
std::map<std::string, double> unified_tasks();

}  // namespace espalier
