#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include <c10/core/ScalarType.h>

#include "models/weights/safetensors.h"

namespace espalier {

// What the header of a safetensors file says of one tensor.
struct SafetensorsEntry {
  std::string name;
  at::ScalarType type = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes, from the start of the data
};

struct SafetensorsLayout {
  std::vector<SafetensorsEntry> entries;  // in file order
  TextMap metadata;
  uint64_t data_start = 0;  // bytes, from the start of the file
};

constexpr size_t kSafetensorsLengthBytes = 8;

// Reads and checks the header of `file`, which was opened at `path`. WeightsError for whatever the
// format forbids (safetensors.h).
SafetensorsLayout read_safetensors_layout(const std::string& path, std::ifstream& file);

// "F32"; WeightsError for a type that such files cannot hold.
const char* safetensors_dtype(at::ScalarType type);

// "[2,3]"; a size below 0 is "any".
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace espalier
