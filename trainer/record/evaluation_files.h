#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/evaluation/section.h"

namespace espalier {

// evaluation/STAGE.json of a run: the sections of the stage's final evaluation.
std::string evaluation_path(const std::string& run_directory, const std::string& stage);
void write_evaluation(const std::string& run_directory, const std::string& stage, int64_t step,
                      int64_t global_step, const std::vector<Section>& sections);
// The stage is about to be trained: what is there is of other weights.
void forget_evaluation(const std::string& run_directory, const std::string& stage);

// "codes-0000400-": start of the names of all pictures of one evaluation.
std::string picture_prefix(const std::string& stage, int64_t step);

}  // namespace espalier
