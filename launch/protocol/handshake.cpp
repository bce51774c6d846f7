#include "launch/protocol/handshake.h"

#include <optional>
#include <string>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "trainer/record/json_text.h"

namespace espalier {
namespace {

constexpr int kMaxJsonDepth = 16;

// The text that both proofs and the session keys are computed from. `purpose` keeps one use of the
// token from being good for another.
std::string transcript(std::string_view purpose, const Frame& hello, const SecretKey& worker_nonce,
                       const SecretKey& coordinator_nonce) {
  std::string text(purpose);
  text += '\n' + std::to_string(hello.generation) + '\n' + std::to_string(hello.rank) + '\n' +
          to_hex(worker_nonce) + '\n' + to_hex(coordinator_nonce) + '\n' + hello.payload;
  return text;
}

SessionKeys session_keys(const SecretKey& token, const Frame& hello, const SecretKey& worker_nonce,
                         const SecretKey& coordinator_nonce) {
  return {
      hmac_sha256(token, transcript("seal to coordinator", hello, worker_nonce, coordinator_nonce)),
      hmac_sha256(token, transcript("seal to worker", hello, worker_nonce, coordinator_nonce))};
}

SecretKey key_field(const nlohmann::json& payload, const char* name) {
  const auto field = payload.find(name);
  const auto key = field != payload.end() && field->is_string()
                       ? from_hex(field->get_ref<const std::string&>())
                       : std::nullopt;
  if (!key) throw FrameError(std::string("the handshake lacks its ") + name);
  return *key;
}

bool equal(const SecretKey& a, const SecretKey& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

SecretKey hmac_sha256(const SecretKey& key, std::string_view message) {
  SecretKey out{};
  unsigned int length = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(message.data()), message.size(), out.data(),
           &length) == nullptr) {
    throw std::runtime_error("OpenSSL could not compute an HMAC");
  }
  return out;
}

nlohmann::json parse_payload(std::string_view payload) {
  const auto limit_depth = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxJsonDepth) throw FrameError("a payload nests too deeply");
    return true;
  };
  auto parsed = nlohmann::json::parse(payload, limit_depth, /*allow_exceptions=*/false);
  if (!parsed.is_object()) throw FrameError("a payload is not a JSON object");
  return parsed;
}

WorkerHandshake::WorkerHandshake(const SecretKey& token, uint32_t generation, uint32_t rank,
                                 const HelloMessage& identity)
    : token_(token), nonce_(random_key()) {
  nlohmann::json payload = identity.encode();
  payload["nonce"] = to_hex(nonce_);
  hello_ = {MessageType::kHello, generation, rank, 0, json_text(payload)};
}

Frame WorkerHandshake::hello() const { return hello_; }

Frame WorkerHandshake::answer(const Frame& challenge) {
  const auto payload = parse_payload(challenge.payload);
  if (challenge.type == MessageType::kBye) {
    throw FrameError("refused: " + RefusalMessage::decode(payload).why);
  }
  if (challenge.type != MessageType::kChallenge) throw FrameError("expected a CHALLENGE");
  const SecretKey theirs = key_field(payload, "nonce");
  const SecretKey expected =
      hmac_sha256(token_, transcript("coordinator proves", hello_, nonce_, theirs));
  if (!equal(expected, key_field(payload, "proof"))) {
    throw FrameError("the peer does not hold this run's token");
  }
  keys_ = session_keys(token_, hello_, nonce_, theirs);
  const SecretKey proof = hmac_sha256(token_, transcript("worker proves", hello_, nonce_, theirs));
  return {MessageType::kProof, hello_.generation, hello_.rank, 1,
          nlohmann::json{{"proof", to_hex(proof)}}.dump()};
}

CoordinatorHandshake::CoordinatorHandshake(const RoleTokens& tokens)
    : tokens_(tokens), nonce_(random_key()) {}

Frame CoordinatorHandshake::challenge(const Frame& hello) {
  if (hello.type != MessageType::kHello || challenged_) throw FrameError("expected a HELLO");
  const SecretKey theirs = key_field(parse_payload(hello.payload), "nonce");
  const SecretKey& token = tokens_.of(role_of(hello.rank));
  hello_ = hello;
  challenged_ = true;
  expected_proof_ = hmac_sha256(token, transcript("worker proves", hello_, theirs, nonce_));
  keys_ = session_keys(token, hello_, theirs, nonce_);
  const SecretKey proof =
      hmac_sha256(token, transcript("coordinator proves", hello_, theirs, nonce_));
  return {MessageType::kChallenge, hello.generation, hello.rank, 0,
          nlohmann::json{{"nonce", to_hex(nonce_)}, {"proof", to_hex(proof)}}.dump()};
}

void CoordinatorHandshake::check(const Frame& proof) {
  if (proof.type != MessageType::kProof || !challenged_) throw FrameError("expected a PROOF");
  if (!equal(expected_proof_, key_field(parse_payload(proof.payload), "proof"))) {
    throw FrameError("the peer does not hold this run's token");
  }
}

}  // namespace espalier
