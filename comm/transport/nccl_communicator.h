#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"

namespace espalier {

// Version of the NCCL in this build, "" when it has none.
std::string nccl_version();

// True when this build has NCCL and this machine has a GPU it can use.
bool nccl_is_available();

// Which GPU CUDA device `device` of this process really is: the same text in every process of a
// machine, whatever its CUDA_VISIBLE_DEVICES. "" when this build cannot tell.
std::string gpu_identity(int device);

// The ranks of `bootstrap` once more, one at least, for tensors on CUDA device `device`. Operations
// run on a stream of their own, after what the current stream holds at issue. A thread watches over
// them: what fails, or does not end within options.timeout_s, is aborted (see NcclLink).
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& bootstrap, int device,
                                                     const CommunicatorOptions& options);

}  // namespace espalier
