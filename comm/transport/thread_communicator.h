#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace espalier {

// `size` ranks for `size` threads of one process; for tests. An operation is carried out by the
// last rank to issue it. Finds what real transports can only hang on: ranks that issue different
// operations (ProtocolError), ranks that left (PeerLost), ranks that do not come (Timeout, which
// names them).
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(
    int size, const CommunicatorOptions& options = {.timeout_s = 60});

// Runs `body` on `size` threads, each with its communicator. Rethrows the first error that is not
// the mere echo of another rank's.
void run_ranks(int size, const std::function<void(Communicator&)>& body, double timeout_s = 60);

}  // namespace espalier
