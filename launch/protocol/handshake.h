#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "launch/protocol/frame.h"
#include "launch/protocol/messages.h"
#include "launch/protocol/token.h"

namespace espalier {

// Mutual challenge-response over the token of the peer's role. Both sides contribute a nonce, so
// nothing that was recorded can be played back; the keys that seal later frames are derived from
// both nonces and differ by direction. Pure: frames in, frames out.
//
//   worker                                        coordinator
//   HELLO {nonce, pid, host, machine}  ->
//                                      <-  CHALLENGE {nonce, proof}
//   PROOF {proof}                      ->
//                                      <-  WELCOME (sealed)

SecretKey hmac_sha256(const SecretKey& key, std::string_view message);

struct SessionKeys {
  SecretKey to_coordinator{};
  SecretKey to_worker{};
};

// Parses a payload; throws FrameError when it is not a JSON object or nests deeper than 16.
nlohmann::json parse_payload(std::string_view payload);

class WorkerHandshake {
 public:
  // `identity` travels in HELLO beside the nonce; it is bound into the proofs.
  WorkerHandshake(const SecretKey& token, uint32_t generation, uint32_t rank,
                  const HelloMessage& identity);
  Frame hello() const;
  // Checks the coordinator's proof; returns PROOF. Throws FrameError when the peer is an
  // impostor.
  Frame answer(const Frame& challenge);
  const SessionKeys& keys() const { return keys_; }

 private:
  SecretKey token_;
  SecretKey nonce_;
  Frame hello_;
  SessionKeys keys_;
};

class CoordinatorHandshake {
 public:
  explicit CoordinatorHandshake(const RoleTokens& tokens);
  // The role, and so the token, follows from the rank that the peer claims.
  Frame challenge(const Frame& hello);
  // Throws FrameError when the peer does not hold the token.
  void check(const Frame& proof);
  const Frame& hello() const { return hello_; }
  const SessionKeys& keys() const { return keys_; }

 private:
  RoleTokens tokens_;
  SecretKey nonce_;
  Frame hello_;
  SecretKey expected_proof_{};
  SessionKeys keys_;
  bool challenged_ = false;
};

}  // namespace espalier
