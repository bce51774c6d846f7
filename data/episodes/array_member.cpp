#include "data/episodes/array_member.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <stdexcept>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/errors.h"

namespace espalier {
namespace {

static_assert(std::endian::native == std::endian::little, "values are copied as they are stored");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = uint64_t{1} << 20;
constexpr size_t kMaxDimensions = 8;

int64_t item_bytes(ArrayType type) { return type == ArrayType::kF32 ? 4 : 1; }

struct Extent {
  uint64_t begin = 0;  // from the start of the data
  uint64_t end = 0;
  std::string name;
};

class HeaderParser {
 public:
  HeaderParser(std::span<const uint8_t> file, const std::string& name) : file_(file), name_(name) {}

  std::map<std::string, ArrayMember> run() {
    const nlohmann::json header = parse_header();
    std::map<std::string, ArrayMember> arrays;
    for (const auto& [key, entry] : header.items()) {
      if (key != "__metadata__") arrays.emplace(key, take(key, entry));
    }
    require_no_gaps();
    return arrays;
  }

 private:
  nlohmann::json parse_header() {
    uint64_t length = 0;
    if (file_.size() < kLengthBytes)
      fail(std::to_string(file_.size()) + " bytes are too few for a safetensors file");
    std::memcpy(&length, file_.data(), kLengthBytes);
    if (length > kMaxHeaderBytes || length > file_.size() - kLengthBytes) {
      fail("the safetensors header announces " + std::to_string(length) + " bytes; the file has " +
           std::to_string(file_.size() - kLengthBytes) + " after the length, and " +
           std::to_string(kMaxHeaderBytes) + " are read at most");
    }
    const auto text = file_.subspan(kLengthBytes, length);
    data_ = file_.subspan(kLengthBytes + length);
    std::set<std::string> keys;
    // The parser would keep the last of two equal keys without a word.
    const auto refuse_repeats = [&](int depth, nlohmann::json::parse_event_t event,
                                    nlohmann::json& value) {
      if (depth == 1 && event == nlohmann::json::parse_event_t::key &&
          !keys.insert(value.get<std::string>()).second)
        fail("array \"" + value.get<std::string>() + "\" is described twice");
      return true;
    };
    nlohmann::json header;
    try {
      header = nlohmann::json::parse(text.begin(), text.end(), refuse_repeats);
    } catch (const nlohmann::json::exception& error) {
      fail(std::string("the safetensors header is not JSON: ") + error.what());
    }
    if (!header.is_object()) fail("the safetensors header is not a JSON object");
    return header;
  }

  ArrayMember take(const std::string& key, const nlohmann::json& entry) {
    const std::string what = "array \"" + key + "\"";
    if (!entry.is_object()) fail(what + ": expected an object with dtype, shape and data_offsets");
    ArrayMember array;
    array.type = type_of(what, entry);
    array.shape = shape_of(what, entry);
    const Extent extent = extent_of(what, entry);
    const auto size = size_of(array);
    if (!size || *size != extent.end - extent.begin) {
      fail(what + ": " + describe(array.type, array.shape) + " does not fit the " +
           std::to_string(extent.end - extent.begin) + " bytes of its data_offsets");
    }
    array.bytes = data_.subspan(extent.begin, extent.end - extent.begin);
    extents_.push_back(extent);
    return array;
  }

  ArrayType type_of(const std::string& what, const nlohmann::json& entry) const {
    const auto found = entry.find("dtype");
    if (found == entry.end() || !found->is_string()) fail(what + ": dtype is missing");
    const auto& text = found->get_ref<const std::string&>();
    if (text == "F32") return ArrayType::kF32;
    if (text == "U8") return ArrayType::kU8;
    fail(what + ": dtype " + text + "; expected F32 or U8");
  }

  // Up to `most` integers that are not negative.
  std::vector<int64_t> integers(const std::string& what, const nlohmann::json& entry,
                                const char* field, size_t most) const {
    const auto found = entry.find(field);
    const auto is_count = [](const nlohmann::json& value) {
      return value.is_number_unsigned() &&
             value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()};
    };
    if (found == entry.end() || !found->is_array() || found->size() > most ||
        !std::all_of(found->begin(), found->end(), is_count)) {
      fail(what + ": " + field + " is missing or not a list of at most " + std::to_string(most) +
           " counts");
    }
    return found->get<std::vector<int64_t>>();
  }

  std::vector<int64_t> shape_of(const std::string& what, const nlohmann::json& entry) const {
    return integers(what, entry, "shape", kMaxDimensions);
  }

  Extent extent_of(const std::string& what, const nlohmann::json& entry) const {
    const auto offsets = integers(what, entry, "data_offsets", 2);
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > std::ssize(data_)) {
      fail(what + ": data_offsets must be a begin and an end within the " +
           std::to_string(data_.size()) + " bytes of data");
    }
    return {static_cast<uint64_t>(offsets[0]), static_cast<uint64_t>(offsets[1]), what};
  }

  // In bytes; none when the product is beyond the data, however large the factors.
  std::optional<uint64_t> size_of(const ArrayMember& array) const {
    uint64_t size = static_cast<uint64_t>(item_bytes(array.type));
    for (const int64_t side : array.shape) {
      if (side == 0) return 0;
    }
    for (const int64_t side : array.shape) {
      if (static_cast<uint64_t>(side) > data_.size() / size) return std::nullopt;
      size *= static_cast<uint64_t>(side);
    }
    return size;
  }

  void require_no_gaps() {
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    uint64_t position = 0;
    for (const Extent& extent : extents_) {
      if (extent.begin != position) {
        fail(extent.name + " begins at byte " + std::to_string(extent.begin) +
             " of the data; expected " + std::to_string(position) + ", where the one before ends");
      }
      position = extent.end;
    }
    if (position != data_.size()) {
      fail("the arrays end at byte " + std::to_string(position) + " of the data, which has " +
           std::to_string(data_.size()));
    }
  }

  [[noreturn]] void fail(const std::string& what) const { throw DataError(name_ + ": " + what); }

  std::span<const uint8_t> file_;
  const std::string& name_;
  std::span<const uint8_t> data_;
  std::vector<Extent> extents_;
};

void require_type(const ArrayMember& array, ArrayType type) {
  if (array.type != type)
    throw std::logic_error(std::string("an array of ") + name_of(array.type) + ", not " +
                           name_of(type));
}

}  // namespace

const char* name_of(ArrayType type) { return type == ArrayType::kF32 ? "F32" : "U8"; }

std::string describe(ArrayType type, const std::vector<int64_t>& shape) {
  std::string text = std::string(name_of(type)) + " [";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

std::map<std::string, ArrayMember> parse_array_members(std::span<const uint8_t> file,
                                                       const std::string& name) {
  return HeaderParser(file, name).run();
}

std::vector<float> floats_of(const ArrayMember& array) {
  require_type(array, ArrayType::kF32);
  std::vector<float> values(array.bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), array.bytes.data(), array.bytes.size());
  return values;
}

std::vector<uint8_t> bytes_of(const ArrayMember& array) {
  require_type(array, ArrayType::kU8);
  return {array.bytes.begin(), array.bytes.end()};
}

}  // namespace espalier
