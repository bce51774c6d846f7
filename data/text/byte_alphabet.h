#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace espalier {

// GPT-2's spelling of bytes in vocabulary files: printable Latin-1 characters stand for themselves,
// the other 68 bytes for the characters from U+0100 on, so that no token holds a space or a
// control.
inline std::array<std::string, 256> byte_alphabet() {
  const auto utf8 = [](int code) {  // below U+0800
    if (code < 0x80) return std::string(1, static_cast<char>(code));
    return std::string{static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
  };
  std::array<std::string, 256> spelling;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    spelling[byte] = utf8(printable ? byte : next++);
  }
  return spelling;
}

inline std::string spell_bytes(const std::string& bytes) {
  static const std::array<std::string, 256> kAlphabet = byte_alphabet();
  std::string text;
  for (const char byte : bytes) text += kAlphabet[static_cast<uint8_t>(byte)];
  return text;
}

}  // namespace espalier
