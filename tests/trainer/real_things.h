#pragma once

#include <string>
#include <vector>

#include "models/weights/safetensors.h"
#include "trainer/config/run_config.h"

namespace espalier {

// A config of a small tokenizer "tokenizer" and a small Y "y" with the branches "understanding" and
// "generation", on the committed emoji of the test split (178), without a teacher: stage "codes"
// with residual_evolution and masked_patches, stage "both" with caption, group and draw. Everything
// is real but the quality.
std::string small_toml(const std::string& directory);
RunConfig small_config(const std::string& directory, const std::vector<std::string>& sets = {});

// A file of teacher weights of the right shapes; what they compute does not matter.
std::string write_teacher(const std::string& directory);

}  // namespace espalier
