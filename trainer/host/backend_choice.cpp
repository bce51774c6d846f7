#include "trainer/host/backend_choice.h"

#include "trainer/errors.h"

namespace espalier {
namespace {

BackendChoice choose_nccl(const BackendFacts& facts) {
  const std::string asked = "compute.communicator = \"nccl\"";
  if (!facts.is_on_gpu) throw ConfigError(asked + " needs compute.device = \"cuda\"");
  if (!facts.has_nccl) {
    throw ConfigError(asked +
                      ", but this build or machine has no NCCL (`espalier doctor`); \"mpi\" "
                      "carries tensors of GPUs through host memory");
  }
  return {Backend::kNccl, asked};
}

}  // namespace

BackendChoice choose_backend(const ComputeConfig& config, const BackendFacts& facts) {
  if (config.communicator == "nccl") return choose_nccl(facts);
  if (config.communicator == "mpi") return {Backend::kMpi, "compute.communicator = \"mpi\""};
  if (facts.world_size == 1) return {Backend::kSingle, "there is one rank"};
  if (!facts.is_on_gpu) return {Backend::kMpi, "tensors are in host memory"};
  if (!facts.has_nccl) {
    return {Backend::kMpi, "this build or machine has no NCCL; tensors go through host memory"};
  }
  if (facts.is_gpu_shared) {
    return {Backend::kMpi, "ranks share a GPU, which NCCL refuses; tensors go through host memory"};
  }
  return {Backend::kNccl, "tensors are on GPUs"};
}

}  // namespace espalier
