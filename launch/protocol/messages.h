#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "launch/protocol/failure_class.h"
#include "launch/protocol/frame.h"
#include "launch/protocol/host_identity.h"
#include "trainer/phase.h"
#include "trainer/record/step_report.h"

// What the payloads of frames say: one struct for each message, used by both ends. (CHALLENGE and
// PROOF are the handshake's own.) A field that a peer left out or mistyped keeps its default; only
// a phase that does not exist is a FrameError, because no deadline fits it.
namespace espalier {

// HELLO: who connects. Generation and rank are in the frame.
struct HelloMessage {
  static constexpr MessageType kType = MessageType::kHello;
  int pid = 0;
  HostIdentity host = {};

  nlohmann::json encode() const;
  static HelloMessage decode(const nlohmann::json& payload);
};

// WELCOME: the coordinator took the peer in.
struct WelcomeMessage {
  static constexpr MessageType kType = MessageType::kWelcome;

  nlohmann::json encode() const;
};

// BEAT: once a second from every rank.
struct BeatMessage {
  static constexpr MessageType kType = MessageType::kBeat;
  // A long task within the phase, as in WorkReport.
  struct Work {
    std::string what;
    int64_t done = 0;
    int64_t total = 0;
  };
  // What this rank exchanges with the others.
  struct Exchange {
    uint64_t issued = 0;  // operations so far
    uint64_t finished = 0;
    std::string waits_for;  // the oldest one that has not finished; "" = none
    double waited_s = 0;
  };
  int64_t step = -1;  // over all stages; -1 before the first
  Phase phase = Phase::kSetup;
  std::optional<Work> work = std::nullopt;
  std::optional<Exchange> exchange = std::nullopt;

  nlohmann::json encode() const;
  // Throws FrameError when the phase is missing or unknown.
  static BeatMessage decode(const nlohmann::json& payload);
};

// METRICS: a step of rank 0.
struct MetricsMessage {
  static constexpr MessageType kType = MessageType::kMetrics;
  StepReport report;

  nlohmann::json encode() const;
  static MetricsMessage decode(const nlohmann::json& payload);
};

// The three messages of a commit carry the step of the checkpoint, over all stages.
template <MessageType Type>
struct CheckpointMessage {
  static constexpr MessageType kType = Type;
  int64_t step = -1;

  nlohmann::json encode() const;
  static CheckpointMessage decode(const nlohmann::json& payload);
};
using CheckpointPreparedMessage = CheckpointMessage<MessageType::kCkptPrepared>;
using CheckpointCommitMessage = CheckpointMessage<MessageType::kCkptCommit>;
using CheckpointCommittedMessage = CheckpointMessage<MessageType::kCkptCommitted>;

// CKPT_FAILED: rank 0 could not save this one; older ones are as they were, and training goes on.
struct CheckpointFailedMessage {
  static constexpr MessageType kType = MessageType::kCkptFailed;
  int64_t step = -1;
  std::string why;

  nlohmann::json encode() const;
  static CheckpointFailedMessage decode(const nlohmann::json& payload);
};

// STOP: from the coordinator to ranks, or from an operator to the coordinator.
struct StopMessage {
  static constexpr MessageType kType = MessageType::kStop;
  std::string why;

  nlohmann::json encode() const;
  static StopMessage decode(const nlohmann::json& payload);
};

// END: from the coordinator to ranks that it cannot reach otherwise: end now, save nothing.
struct EndMessage {
  static constexpr MessageType kType = MessageType::kEnd;
  std::string why;

  nlohmann::json encode() const;
  static EndMessage decode(const nlohmann::json& payload);
};

// STATUS: an empty question, and its answer, which is what the status page shows.
struct StatusMessage {
  static constexpr MessageType kType = MessageType::kStatus;
  nlohmann::json status = nlohmann::json::object();

  nlohmann::json encode() const { return status; }
};

// ERROR_REPORT: why a rank is about to end. A class this end does not know is kInternal.
struct ErrorReportMessage {
  static constexpr MessageType kType = MessageType::kErrorReport;
  FailureClass failure_class = FailureClass::kInternal;
  std::string what;

  nlohmann::json encode() const;
  static ErrorReportMessage decode(const nlohmann::json& payload);
};

// BYE of a rank: the last it says.
struct ByeMessage {
  static constexpr MessageType kType = MessageType::kBye;
  int exit_code = kExitInternal;

  nlohmann::json encode() const;
  static ByeMessage decode(const nlohmann::json& payload);
};

// BYE of the coordinator: it does not take the peer in.
struct RefusalMessage {
  static constexpr MessageType kType = MessageType::kBye;
  std::string why;

  nlohmann::json encode() const;
  static RefusalMessage decode(const nlohmann::json& payload);
};

}  // namespace espalier
