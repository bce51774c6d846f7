#include "launch/protocol/frame.h"

#include <openssl/crypto.h>

#include "launch/protocol/handshake.h"

namespace espalier {
namespace {

constexpr size_t kLengthOffset = 20;

void put(std::string& out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>((value >> shift) & 0xff));
  }
}

uint64_t get(std::string_view bytes, size_t offset, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i) {
    value = value << 8 | static_cast<uint8_t>(bytes[offset + static_cast<size_t>(i)]);
  }
  return value;
}

}  // namespace

std::string_view name_of(MessageType type) {
  switch (type) {
    case MessageType::kHello:
      return "HELLO";
    case MessageType::kChallenge:
      return "CHALLENGE";
    case MessageType::kProof:
      return "PROOF";
    case MessageType::kWelcome:
      return "WELCOME";
    case MessageType::kBeat:
      return "BEAT";
    case MessageType::kMetrics:
      return "METRICS";
    case MessageType::kCkptPrepared:
      return "CKPT_PREPARED";
    case MessageType::kCkptCommit:
      return "CKPT_COMMIT";
    case MessageType::kCkptCommitted:
      return "CKPT_COMMITTED";
    case MessageType::kStop:
      return "STOP";
    case MessageType::kErrorReport:
      return "ERROR_REPORT";
    case MessageType::kBye:
      return "BYE";
    case MessageType::kStatus:
      return "STATUS";
    case MessageType::kCkptFailed:
      return "CKPT_FAILED";
    case MessageType::kEnd:
      return "END";
  }
  return "?";
}

std::string encode_frame(const Frame& frame, const SecretKey* seal_key) {
  if (frame.payload.size() > kMaxPayloadAfterProof) {
    throw FrameError("a " + std::string(name_of(frame.type)) + " payload of " +
                     std::to_string(frame.payload.size()) + " bytes is over the limit");
  }
  std::string out;
  out.reserve(kFrameHeaderBytes + frame.payload.size() + kSealBytes);
  put(out, kFrameMagic, 2);
  put(out, kFrameVersion, 1);
  put(out, static_cast<uint8_t>(frame.type), 1);
  put(out, frame.generation, 4);
  put(out, frame.rank, 4);
  put(out, frame.sequence, 8);
  put(out, frame.payload.size(), 4);
  out += frame.payload;
  if (seal_key != nullptr) {
    const SecretKey seal = hmac_sha256(*seal_key, out);
    out.append(reinterpret_cast<const char*>(seal.data()), seal.size());
  }
  return out;
}

std::optional<Frame> decode_frame(std::string_view bytes, uint32_t max_payload_bytes,
                                  const SecretKey* seal_key, size_t* consumed) {
  if (bytes.size() >= 2 && get(bytes, 0, 2) != kFrameMagic) {
    throw FrameError("the peer does not speak this protocol");
  }
  if (bytes.size() >= 3 && get(bytes, 2, 1) != kFrameVersion) {
    throw FrameError("protocol version " + std::to_string(get(bytes, 2, 1)) + ", expected " +
                     std::to_string(kFrameVersion));
  }
  if (bytes.size() >= 4 &&
      (get(bytes, 3, 1) == 0 || get(bytes, 3, 1) > static_cast<uint8_t>(MessageType::kLast))) {
    throw FrameError("unknown message type " + std::to_string(get(bytes, 3, 1)));
  }
  if (bytes.size() < kFrameHeaderBytes) return std::nullopt;
  const uint64_t length = get(bytes, kLengthOffset, 4);
  if (length > max_payload_bytes) {
    throw FrameError("a frame announces " + std::to_string(length) + " bytes, the limit is " +
                     std::to_string(max_payload_bytes));
  }
  const size_t sealed_bytes = kFrameHeaderBytes + length;
  const size_t total_bytes = sealed_bytes + (seal_key == nullptr ? 0 : kSealBytes);
  if (bytes.size() < total_bytes) return std::nullopt;
  if (seal_key != nullptr) {
    const SecretKey expected = hmac_sha256(*seal_key, bytes.substr(0, sealed_bytes));
    if (CRYPTO_memcmp(expected.data(), bytes.data() + sealed_bytes, kSealBytes) != 0) {
      throw FrameError("a frame's seal is wrong");
    }
  }
  Frame frame;
  frame.type = static_cast<MessageType>(get(bytes, 3, 1));
  frame.generation = static_cast<uint32_t>(get(bytes, 4, 4));
  frame.rank = static_cast<uint32_t>(get(bytes, 8, 4));
  frame.sequence = get(bytes, 12, 8);
  frame.payload = std::string(bytes.substr(kFrameHeaderBytes, length));
  *consumed = total_bytes;
  return frame;
}

void FrameReader::expect_seals(const SecretKey& key) {
  seal_key_ = key;
  next_sequence_ = 0;
}

std::optional<Frame> FrameReader::next() {
  size_t consumed = 0;
  auto frame = decode_frame(buffer_, seal_key_ ? kMaxPayloadAfterProof : kMaxPayloadBeforeProof,
                            seal_key_ ? &*seal_key_ : nullptr, &consumed);
  if (!frame) return std::nullopt;
  buffer_.erase(0, consumed);
  if (seal_key_ && frame->sequence != next_sequence_++) {
    throw FrameError("a frame came out of order or twice");
  }
  return frame;
}

}  // namespace espalier
