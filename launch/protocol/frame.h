#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// What a peer sent is not a frame of this protocol. The connection is of no more use.
class FrameError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class MessageType : uint8_t {
  kHello = 1,      // worker -> coordinator: who I am, my nonce
  kChallenge,      // coordinator -> worker: its nonce, and the proof that it has the token
  kProof,          // worker -> coordinator: the proof that the worker has the token
  kWelcome,        // coordinator -> worker: sealed from here on
  kBeat,           // worker: step, phase
  kMetrics,        // rank 0: one step's numbers
  kCkptPrepared,   // worker: my shards of this step are on disk
  kCkptCommit,     // coordinator: every rank is prepared; or refused
  kCkptCommitted,  // rank 0: the directory has its final name
  kStop,           // coordinator: stop with a checkpoint; operator: please stop the run
  kErrorReport,    // worker: why it is about to end
  kBye,            // worker: its exit code; coordinator: refused, and why
  kStatus,         // reader or operator: how is it going?; coordinator: so
  kEnd,            // coordinator: end at once, without a checkpoint
  kCkptFailed,     // rank 0: this checkpoint was not saved, and why
  kLast = kCkptFailed,
};
std::string_view name_of(MessageType type);

// Big-endian on the wire, 24 bytes: magic u16, version u8, type u8, generation u32, rank u32,
// sequence u64, payload length u32; then the payload (JSON text); then, once both sides have proved
// that they hold the token, a 32-byte HMAC-SHA256 over header and payload.
struct Frame {
  MessageType type = MessageType::kHello;
  uint32_t generation = 0;
  uint32_t rank = 0;
  uint64_t sequence = 0;
  std::string payload;
};

inline constexpr uint16_t kFrameMagic = 0x4553;  // "ES"
inline constexpr uint8_t kFrameVersion = 2;
inline constexpr size_t kFrameHeaderBytes = 24;
inline constexpr size_t kSealBytes = 32;
inline constexpr uint32_t kMaxPayloadBeforeProof = 1024;
inline constexpr uint32_t kMaxPayloadAfterProof = 1 << 20;
inline constexpr uint32_t kOperatorRank = 0xffffffff;  // `espalier stop` is no rank,
inline constexpr uint32_t kReaderRank = 0xfffffffe;    // and neither is `espalier status`

using SecretKey = std::array<uint8_t, 32>;

std::string encode_frame(const Frame& frame, const SecretKey* seal_key = nullptr);

// Reads the frame at the start of `bytes`. nullopt: more bytes are needed. `consumed` is set with a
// frame. With a key the seal is checked. Throws FrameError as early as the bytes allow, so a
// hostile length is refused before anything of its size is stored.
std::optional<Frame> decode_frame(std::string_view bytes, uint32_t max_payload_bytes,
                                  const SecretKey* seal_key, size_t* consumed);

// Cuts a byte stream into frames, whatever the pieces it arrives in.
class FrameReader {
 public:
  void append(std::string_view bytes) { buffer_.append(bytes); }
  // From now on frames carry a seal, and their sequence numbers run 0, 1, 2, ...: a replayed,
  // dropped or reordered frame is a FrameError.
  void expect_seals(const SecretKey& key);
  std::optional<Frame> next();

 private:
  std::string buffer_;
  std::optional<SecretKey> seal_key_;
  uint64_t next_sequence_ = 0;
};

}  // namespace espalier
