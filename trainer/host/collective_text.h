#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace espalier {

// Where tensors must live that `comm` exchanges: host memory, or this rank's GPU for NCCL.
at::Device communication_device(const Communicator& comm);

// Collective. The text of `root` on every rank.
std::string broadcast_text(Communicator& comm, const std::string& text, int root = 0);

// Collective. Every rank's text, by rank.
std::vector<std::string> gather_text(Communicator& comm, const std::string& text);

// Collective. Runs `work` on rank 0 only; when it throws ConfigError, DoNotRequeueError or
// StorageError, every rank throws the same, so that none waits for a rank that left. Returns rank
// 0's result.
std::string on_rank_0(Communicator& comm, const std::function<std::string()>& work);

}  // namespace espalier
