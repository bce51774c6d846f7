#include "trainer/simulator/bridge_message.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace espalier {
namespace {

MessageLengths lengths_of(const std::string& bytes) {
  return decode_lengths(std::as_bytes(std::span(bytes)).first<kLengthsBytes>());
}

TEST(BridgeMessage, BeginsWithLittleEndianLengths) {
  const std::string start = encode_start({{"do", "step"}}, 0x01020304);
  EXPECT_EQ(start.substr(0, 8), std::string("\x0d\0\0\0\x04\x03\x02\x01", 8));
  EXPECT_EQ(start.substr(8), R"({"do":"step"})");
  EXPECT_EQ(lengths_of(start).json, 13U);
  EXPECT_EQ(lengths_of(start).payload, 0x01020304U);
}

TEST(BridgeMessage, RefusesAbsurdLengths) {
  EXPECT_THROW(lengths_of(std::string(8, '\xff')), BridgeProtocolError);
  EXPECT_THROW(lengths_of(std::string("\x01\0\0\0\0\0\0\0", 8)), BridgeProtocolError);
  EXPECT_THROW(lengths_of(std::string("\x01\0\x10\0\0\0\0\0", 8)), BridgeProtocolError);
  EXPECT_THROW(lengths_of(std::string("\x02\0\0\0\x01\0\0\x10", 8)), BridgeProtocolError);
  EXPECT_EQ(lengths_of(std::string("\0\0\x10\0\0\0\0\x10", 8)).payload, kMaxPayloadBytes);
  EXPECT_THROW(encode_start({{"do", "step"}}, size_t{1} << 32), BridgeProtocolError);
}

TEST(BridgeMessage, TakesOnlyAJsonObject) {
  EXPECT_EQ(decode_fields(R"({"a": 1})").at("a"), 1);
  for (const char* text : {"[1]", "1", "{\"a\":", "\x80\x81", "{\"a\": 1e999}"})
    EXPECT_THROW(decode_fields(text), BridgeProtocolError) << text;
}

}  // namespace
}  // namespace espalier
