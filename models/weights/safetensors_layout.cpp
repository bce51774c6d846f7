#include "models/weights/safetensors_layout.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "models/errors.h"

namespace espalier {
namespace {

// The reference implementation's limit: a header longer than this is an attack or an accident.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxJsonDepth = 4;

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
constexpr std::array<DtypeName, 15> kDtypes = {{{"BOOL", at::kBool},
                                                {"U8", at::kByte},
                                                {"I8", at::kChar},
                                                {"I16", at::kShort},
                                                {"U16", at::kUInt16},
                                                {"I32", at::kInt},
                                                {"U32", at::kUInt32},
                                                {"I64", at::kLong},
                                                {"U64", at::kUInt64},
                                                {"F8_E4M3", at::kFloat8_e4m3fn},
                                                {"F8_E5M2", at::kFloat8_e5m2},
                                                {"F16", at::kHalf},
                                                {"BF16", at::kBFloat16},
                                                {"F32", at::kFloat},
                                                {"F64", at::kDouble}}};

[[noreturn]] void fail(const std::string& path, const std::string& problem) {
  throw WeightsError(path + ": " + problem);
}

// nlohmann keeps the last of two equal keys without a word; the format forbids them. A pass of its
// own, because parse() with a callback looks through all tensors again at the end of each.
class KeyCheck : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit KeyCheck(const std::string& path) : path_(path) {}

  bool start_object(size_t /*elements*/) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(size_t /*elements*/) override { return open(); }
  bool end_array() override { return close(); }
  bool key(std::string& text) override {
    if (keys_.back().insert(text).second) return true;
    fail(path_, "the header names \"" + text + "\" twice");
  }
  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(number_integer_t /*value*/) override { return true; }
  bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
  bool number_float(number_float_t /*value*/, const std::string& /*text*/) override { return true; }
  bool string(std::string& /*value*/) override { return true; }
  bool binary(nlohmann::json::binary_t& /*value*/) override { return true; }
  bool parse_error(size_t /*at*/, const std::string& /*token*/,
                   const nlohmann::json::exception& error) override {
    fail(path_, std::string("the header is not JSON (") + error.what() + ")");
  }

 private:
  bool open() {
    if (keys_.size() > kMaxJsonDepth)
      fail(path_, "the header is nested too deeply for safetensors");
    keys_.emplace_back();
    return true;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  const std::string& path_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

nlohmann::json parse_strictly(const std::string& path, const std::string& text) {
  KeyCheck check(path);
  nlohmann::json::sax_parse(text, &check);
  return nlohmann::json::parse(text);
}

at::ScalarType dtype_from_name(const std::string& path, const std::string& tensor,
                               const std::string& name) {
  for (const DtypeName& dtype : kDtypes) {
    if (name == dtype.name) return dtype.type;
  }
  fail(path, "tensor \"" + tensor + "\" has dtype " + name + ", which is not supported");
}

SafetensorsEntry read_entry(const std::string& path, const std::string& name,
                            const nlohmann::json& value) {
  SafetensorsEntry entry;
  entry.name = name;
  try {
    entry.type = dtype_from_name(path, name, value.at("dtype").get<std::string>());
    uint64_t bytes = c10::elementSize(entry.type);
    auto strides = static_cast<int64_t>(bytes);
    for (const nlohmann::json& dimension : value.at("shape")) {
      if (!dimension.is_number_unsigned()) fail(path, "tensor \"" + name + "\" has a bad shape");
      const auto size = dimension.get<uint64_t>();
      // Beside a dimension of 0 the others still make strides.
      if (size > INT64_MAX ||
          __builtin_mul_overflow(strides, std::max<int64_t>(1, static_cast<int64_t>(size)),
                                 &strides) ||
          __builtin_mul_overflow(bytes, size, &bytes)) {
        fail(path, "tensor \"" + name + "\" has a shape that overflows");
      }
      entry.shape.push_back(static_cast<int64_t>(size));
    }
    const nlohmann::json& offsets = value.at("data_offsets");
    if (offsets.size() != 2 || !offsets.at(0).is_number_unsigned() ||
        !offsets.at(1).is_number_unsigned()) {
      fail(path, "tensor \"" + name + "\" has bad data_offsets");
    }
    entry.begin = offsets.at(0).get<uint64_t>();
    entry.end = offsets.at(1).get<uint64_t>();
    if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
      fail(path, "tensor \"" + name + "\" has " + std::to_string(bytes) +
                     " bytes by its shape but another number by its data_offsets");
    }
  } catch (const nlohmann::json::exception& error) {
    fail(path, "tensor \"" + name + "\" is described wrongly (" + error.what() + ")");
  }
  return entry;
}

void check_layout(const std::string& path, SafetensorsLayout& header, uint64_t file_bytes) {
  std::sort(header.entries.begin(), header.entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
            });
  uint64_t position = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    if (entry.begin != position) {
      fail(path, "a hole or an overlap before the data of tensor \"" + entry.name + "\"");
    }
    position = entry.end;
  }
  if (header.data_start + position != file_bytes) {
    fail(path, "holds " + std::to_string(file_bytes) + " bytes where its header asks for " +
                   std::to_string(header.data_start + position) +
                   "; the file is cut short or damaged, fetch or write it again");
  }
}

}  // namespace

SafetensorsLayout read_safetensors_layout(const std::string& path, std::ifstream& file) {
  if (!file) fail(path, "cannot be opened for reading");
  file.seekg(0, std::ios::end);
  const auto file_bytes = static_cast<uint64_t>(file.tellg());
  file.seekg(0);
  std::array<unsigned char, kSafetensorsLengthBytes> prefix{};
  file.read(reinterpret_cast<char*>(prefix.data()), kSafetensorsLengthBytes);
  uint64_t length = 0;
  for (size_t i = kSafetensorsLengthBytes; i-- > 0;) length = length << 8 | prefix[i];
  if (!file || length > kMaxHeaderBytes || length + kSafetensorsLengthBytes > file_bytes) {
    fail(path, "is not a safetensors file (no valid header length)");
  }
  std::string text(length, '\0');
  file.read(text.data(), static_cast<std::streamsize>(length));
  if (!file || text.empty() || text[0] != '{') fail(path, "is not a safetensors file (no header)");

  SafetensorsLayout header;
  header.data_start = kSafetensorsLengthBytes + length;
  const nlohmann::json json = parse_strictly(path, text);
  for (const auto& [name, value] : json.items()) {
    if (name != "__metadata__") {
      header.entries.push_back(read_entry(path, name, value));
      continue;
    }
    if (!value.is_object()) fail(path, "__metadata__ is not an object");
    for (const auto& [key, text_value] : value.items()) {
      if (!text_value.is_string()) fail(path, "__metadata__ may hold strings only");
      header.metadata[key] = text_value.get<std::string>();
    }
  }
  check_layout(path, header, file_bytes);
  return header;
}

const char* safetensors_dtype(at::ScalarType type) {
  for (const DtypeName& dtype : kDtypes) {
    if (type == dtype.type) return dtype.name;
  }
  throw WeightsError(std::string("safetensors cannot hold dtype ") + c10::toString(type));
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) {
    text += (text.size() > 1 ? "," : "") + (size < 0 ? "any" : std::to_string(size));
  }
  return text + "]";
}

}  // namespace espalier
