#include "trainer/record/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "trainer/host/host_name.h"

namespace espalier {
namespace {

static_assert(std::endian::native == std::endian::little, "frames are little-endian");

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// Protocol buffers: a field is a varint of (number << 3 | wire type), then the value.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string integer_field(int number, int64_t value) {
  return varint(number << 3 | 0) + varint(static_cast<uint64_t>(value));
}
std::string double_field(int number, double value) { return varint(number << 3 | 1) + raw(value); }
std::string bytes_field(int number, const std::string& value) {
  return varint(number << 3 | 2) + varint(value.size()) + value;
}
std::string float_field(int number, float value) { return varint(number << 3 | 5) + raw(value); }

// Field numbers of tensorflow/core/util/event.proto and framework/summary.proto.
std::string event(double wall_time_s, int64_t step, int number, const std::string& content) {
  return double_field(1, wall_time_s) + integer_field(2, step) + bytes_field(number, content);
}
constexpr int kFileVersion = 3;
constexpr int kSummary = 5;
constexpr int kSessionLog = 7;

uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

int64_t big_endian_32(const std::string& bytes, size_t offset) {
  int64_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes.at(offset + i));
  return value;
}

}  // namespace

uint32_t crc32c(const std::string& bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
      made[i] = crc;
    }
    return made;
  }();
  uint32_t crc = 0xffffffffu;
  for (const char byte : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

std::string tfrecord(const std::string& payload) {
  const std::string length = raw<uint64_t>(payload.size());
  return length + raw(masked(crc32c(length))) + payload + raw(masked(crc32c(payload)));
}

std::string scalars_event(const std::vector<std::pair<std::string, double>>& values, int64_t step,
                          double wall_time_s) {
  std::string summary;
  for (const auto& [tag, value] : values) {
    summary += bytes_field(1, bytes_field(1, tag) + float_field(2, static_cast<float>(value)));
  }
  return event(wall_time_s, step, kSummary, summary);
}

std::string png_event(const std::string& tag, const std::string& png, int64_t step,
                      double wall_time_s) {
  if (png.size() < 24) throw std::invalid_argument("not a PNG");
  // A PNG starts with 8 bytes of signature, then the IHDR chunk: length, name, width, height.
  const std::string image = integer_field(1, big_endian_32(png, 20)) +
                            integer_field(2, big_endian_32(png, 16)) + integer_field(3, 3) +
                            bytes_field(4, png);
  return event(wall_time_s, step, kSummary,
               bytes_field(1, bytes_field(1, tag) + bytes_field(4, image)));
}

TensorboardWriter::TensorboardWriter(const std::string& directory, double wall_time_s,
                                     int64_t start_step)
    : file_(directory + "/events.out.tfevents." +
            std::to_string(static_cast<int64_t>(wall_time_s)) + "." + host_name() + "." +
            std::to_string(::getpid())) {
  const std::string start = integer_field(1, 1);  // SessionLog.START
  head_ = tfrecord(event(wall_time_s, 0, kFileVersion, "brain.Event:2")) +
          tfrecord(event(wall_time_s, start_step, kSessionLog, start));
  if (file_.append(head_)) head_.clear();
}

bool TensorboardWriter::add_scalars(const std::vector<std::pair<std::string, double>>& values,
                                    int64_t step, double wall_time_s) {
  return add(scalars_event(values, step, wall_time_s));
}

bool TensorboardWriter::add_png(const std::string& tag, const std::string& png, int64_t step,
                                double wall_time_s) {
  return add(png_event(tag, png, step, wall_time_s));
}

bool TensorboardWriter::add(const std::string& event) {
  if (!file_.append(head_ + tfrecord(event))) return false;
  head_.clear();
  return true;
}

}  // namespace espalier
