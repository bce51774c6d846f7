#include "trainer/simulator/bridge_message.h"

#include <nlohmann/json.hpp>

namespace espalier {
namespace {

uint32_t read_length(std::span<const std::byte> bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= std::to_integer<uint32_t>(bytes[i]) << (8 * i);
  return value;
}

void append_length(std::string& out, size_t value) {
  for (size_t i = 0; i < 4; ++i) out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

void require_bounded(size_t json_bytes, size_t payload) {
  if (json_bytes >= 2 && json_bytes <= kMaxJsonBytes && payload <= kMaxPayloadBytes) return;
  throw BridgeProtocolError("a message of " + std::to_string(json_bytes) + " bytes of JSON and " +
                            std::to_string(payload) + " of payload; expected 2 to " +
                            std::to_string(kMaxJsonBytes) + " and at most " +
                            std::to_string(kMaxPayloadBytes));
}

}  // namespace

MessageLengths decode_lengths(std::span<const std::byte, kLengthsBytes> bytes) {
  const MessageLengths lengths{read_length(bytes.first(4)), read_length(bytes.last(4))};
  require_bounded(lengths.json, lengths.payload);
  return lengths;
}

std::string encode_start(const nlohmann::json& fields, size_t payload_bytes) {
  const std::string text = fields.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  require_bounded(text.size(), payload_bytes);
  std::string out;
  append_length(out, text.size());
  append_length(out, payload_bytes);
  return out + text;
}

nlohmann::json decode_fields(const std::string& text) {
  nlohmann::json fields = nlohmann::json::parse(text, nullptr, false);
  if (!fields.is_object())
    throw BridgeProtocolError("the JSON of a message is no object: " + text.substr(0, 80));
  return fields;
}

}  // namespace espalier
