#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/weights/safetensors.h"

namespace espalier {

// "4GB", "500MB", "2GiB" or bytes, as Hugging Face has them: GB is 10^9, GiB is 2^30. ConfigError
// for anything else, and for less than 1.
int64_t parse_size(const std::string& text, const std::string& asked_by);

// Tensors in name order, cut where a shard would grow beyond `max_bytes`; one tensor is never cut.
std::vector<TensorMap> cut_into_shards(const TensorMap& tensors, int64_t max_bytes);

// Into `directory`, which exists: model.safetensors, or where there are several shards
// model-00001-of-0000N.safetensors and model.safetensors.index.json, which says what stands where.
// On the disk when it returns. The names of the files. StorageError.
std::vector<std::string> write_weight_shards(const std::string& directory,
                                             const std::vector<TensorMap>& shards);

int64_t bytes_of(const TensorMap& tensors);

}  // namespace espalier
