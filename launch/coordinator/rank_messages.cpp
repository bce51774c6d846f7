#include "launch/coordinator/rank_messages.h"

#include <string>

#include "launch/protocol/messages.h"

namespace espalier {
namespace {

std::optional<CoordinatorEvent> event_of_operator(const PeerIdentity& peer, MessageType type,
                                                  const nlohmann::json& payload) {
  if (type != MessageType::kStop || peer.role() != Role::kOperator) {
    throw FrameError("a peer in the role of " + std::string(name_of(peer.role())) + " sent " +
                     std::string(name_of(type)));
  }
  return StopRequested{StopMessage::decode(payload).why, StopSource::kPerson};
}

RankBeat beat_of(const PeerIdentity& peer, int rank, const BeatMessage& message) {
  return {peer.generation, rank, message.step, message.phase, message.work ? message.work->done : 0,
          message.exchange};
}

}  // namespace

std::optional<CoordinatorEvent> event_of(const PeerIdentity& peer, MessageType type,
                                         const nlohmann::json& payload) {
  if (peer.role() != Role::kWorker) return event_of_operator(peer, type, payload);
  const int rank = static_cast<int>(peer.rank);
  switch (type) {
    case MessageType::kBeat:
      return beat_of(peer, rank, BeatMessage::decode(payload));
    case MessageType::kMetrics:
      return std::nullopt;
    case MessageType::kCkptPrepared:
      return RankPrepared{peer.generation, rank, CheckpointPreparedMessage::decode(payload).step};
    case MessageType::kCkptCommitted:
      return RankCommitted{peer.generation, rank, CheckpointCommittedMessage::decode(payload).step};
    case MessageType::kCkptFailed: {
      const CheckpointFailedMessage message = CheckpointFailedMessage::decode(payload);
      return RankSaveFailed{peer.generation, rank, message.step, message.why};
    }
    case MessageType::kErrorReport: {
      const ErrorReportMessage message = ErrorReportMessage::decode(payload);
      return RankError{peer.generation, rank, message.failure_class, message.what};
    }
    case MessageType::kBye:
      return RankBye{peer.generation, rank, ByeMessage::decode(payload).exit_code};
    default:
      throw FrameError("a rank sent " + std::string(name_of(type)));
  }
}

}  // namespace espalier
