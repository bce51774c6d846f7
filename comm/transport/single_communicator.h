#pragma once

#include <memory>

#include "comm/communicator.h"

namespace espalier {

// A world of one rank: every operation is complete when it is issued.
std::unique_ptr<Communicator> make_single_communicator(const CommunicatorOptions& options = {});

}  // namespace espalier
