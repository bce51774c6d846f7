#include "comm/errors.h"
#include "comm/transport/nccl_communicator.h"

namespace espalier {

std::string nccl_version() { return ""; }

bool nccl_is_available() { return false; }

std::string gpu_identity(int) { return ""; }

std::unique_ptr<Communicator> make_nccl_communicator(Communicator&, int,
                                                     const CommunicatorOptions&) {
  throw CommError(
      "this build has no NCCL: configure it with ESPALIER_NCCL=ON, a LibTorch with CUDA, nccl.h "
      "and cuda_runtime_api.h");
}

}  // namespace espalier
