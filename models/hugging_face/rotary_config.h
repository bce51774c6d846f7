#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "models/attention/rotary.h"

namespace espalier {

// Rotary positions in a Hugging Face config.json: "rope_theta" and "rope_scaling", or, from
// transformers 5 on, both in "rope_parameters". `path` is for errors; `longest_sequence` is
// max_position_embeddings. WeightsError names file and key for a form that is not known and for a
// form's keys that are missing or make no sense.
RotaryOptions read_rotary_config(const std::string& path, const nlohmann::json& config,
                                 int64_t longest_sequence);

// The same, as "rope_theta", "rope_scaling" and "rope_parameters", which every version reads.
void write_rotary_config(const RotaryOptions& options, nlohmann::ordered_json& config);

}  // namespace espalier
