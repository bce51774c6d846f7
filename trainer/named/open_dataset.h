#pragma once

#include <string>

#include "data/sources/dataset.h"
#include "trainer/config/run_config.h"
#include "trainer/run_observer.h"

namespace espalier {

// One split of [data.NAME], with the fields that the run's objectives need of it. ConfigError when
// the split is empty, DataError for what cannot be read. `on_work` hears of sources that are looked
// through for the first time.
Dataset open_dataset(const RunConfig& config, const std::string& data, const std::string& split,
                     const WorkListener& on_work = {});

}  // namespace espalier
