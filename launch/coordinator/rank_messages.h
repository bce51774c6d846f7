#pragma once

#include <optional>

#include <nlohmann/json.hpp>

#include "launch/coordinator/control_server.h"
#include "launch/coordinator/coordinator_events.h"

namespace espalier {

// What a message of a rank, or of an operator, means to the coordinator; nothing when it is only
// for show (METRICS). Throws FrameError for what such a peer may not say.
std::optional<CoordinatorEvent> event_of(const PeerIdentity& peer, MessageType type,
                                         const nlohmann::json& payload);

}  // namespace espalier
