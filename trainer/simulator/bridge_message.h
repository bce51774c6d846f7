#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace espalier {

// What a bridge sent is no message, or not the answer to what it was asked.
class BridgeProtocolError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A message of the bridge (data/simulators/README.md): bytes of JSON u32, bytes of payload u32,
// both little-endian; the JSON, UTF-8; the payload.
inline constexpr size_t kLengthsBytes = 8;
inline constexpr uint32_t kMaxJsonBytes = 1 << 20;
inline constexpr uint32_t kMaxPayloadBytes = 1 << 28;

struct MessageLengths {
  uint32_t json = 0;
  uint32_t payload = 0;
};

// Throws BridgeProtocolError for lengths above the limits: nothing of their size is asked for.
MessageLengths decode_lengths(std::span<const std::byte, kLengthsBytes> bytes);

// Lengths and JSON; the payload of `payload_bytes` follows. Throws BridgeProtocolError likewise.
std::string encode_start(const nlohmann::json& fields, size_t payload_bytes);

// A JSON object. Throws BridgeProtocolError.
nlohmann::json decode_fields(const std::string& text);

}  // namespace espalier
