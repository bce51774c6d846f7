#pragma once

#include "trainer/config/run_config.h"

namespace espalier {

// Under the prefixes "data.NAME.", "text.NAME.", "episodes.NAME." and "teacher.NAME.": what a run
// learns from.
void declare_data_settings(Settings& settings, RunConfig& config);

}  // namespace espalier
