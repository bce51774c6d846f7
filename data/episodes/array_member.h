#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace espalier {

enum class ArrayType : uint8_t { kF32, kU8 };
const char* name_of(ArrayType type);  // "F32", "U8": as safetensors writes them

// One array of a safetensors file that lies in memory; `bytes` points into that memory.
struct ArrayMember {
  ArrayType type = ArrayType::kF32;
  std::vector<int64_t> shape;
  std::span<const uint8_t> bytes;  // little-endian, row-major
};

// Reads a safetensors file (8 bytes of header length, JSON header, data) as far as episodes need
// it: F32 and U8. The header may come from anyone: lengths, products and offsets are checked before
// they are used, and the arrays must fill the data without gap or overlap, as the format demands.
// Throws DataError that begins with `name` and says what was got and expected.
std::map<std::string, ArrayMember> parse_array_members(std::span<const uint8_t> file,
                                                       const std::string& name);

// "F32 [12, 7]": for messages.
std::string describe(ArrayType type, const std::vector<int64_t>& shape);

// Copies of the values. Throw std::logic_error when the type is another.
std::vector<float> floats_of(const ArrayMember& array);
std::vector<uint8_t> bytes_of(const ArrayMember& array);

}  // namespace espalier
