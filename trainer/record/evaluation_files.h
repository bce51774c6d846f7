#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/images/image_codec.h"
#include "trainer/evaluation/section.h"

namespace espalier {

// evaluation/STAGE.json of a run: the sections of the stage's final evaluation. What cannot be
// written here is logged, and the run goes on.
std::string evaluation_path(const std::string& run_directory, const std::string& stage);
void write_evaluation(const std::string& run_directory, const std::string& stage, int64_t step,
                      int64_t global_step, const std::vector<Section>& sections);
// The stage is about to be trained: what is there is of other weights.
void forget_evaluation(const std::string& run_directory, const std::string& stage);

void save_picture(const std::string& path, const Image& image);

// "codes-0000400-": start of the names of all pictures of one evaluation.
std::string picture_prefix(const std::string& stage, int64_t step);

}  // namespace espalier
