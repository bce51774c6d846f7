#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"

namespace espalier {

// Version of the NCCL in this build, "" when it has none.
std::string nccl_version();

// True when this build has NCCL and this machine has a GPU it can use.
bool nccl_is_available();

// The ranks of `bootstrap` once more, for tensors on CUDA device `device`. Operations run on a
// stream of their own, after what the current stream holds at issue; wait() blocks the host until
// the result is there, watching for asynchronous errors, and aborts after `timeout_s`.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& bootstrap, int device,
                                                     double timeout_s);

}  // namespace espalier
