#include "trainer/host/device.h"

#include <algorithm>
#include <cstdlib>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include "models/layers/batch_invariance.h"
#include "trainer/errors.h"
#include "trainer/host/cores.h"
#include "trainer/host/gpu_choice.h"

namespace espalier {
namespace {

VisibleGpus visible_gpus(int local_rank) {
  const char* const setting = std::getenv("CUDA_VISIBLE_DEVICES");
  return {static_cast<int>(torch::cuda::device_count()), setting == nullptr ? "" : setting,
          local_rank};
}

}  // namespace

at::Device choose_device(const ComputeConfig& config, int local_rank) {
  const bool has_gpu = torch::cuda::is_available();
  if (config.device == "cuda" && !has_gpu) {
    throw ConfigError(
        "compute.device = \"cuda\", but LibTorch sees no GPU here; `espalier doctor` "
        "tells why");
  }
  if (config.device == "cpu" || !has_gpu) return at::kCPU;
  return {at::kCUDA, static_cast<c10::DeviceIndex>(choose_gpu(visible_gpus(local_rank)).index)};
}

std::string why_this_gpu(int local_rank) { return choose_gpu(visible_gpus(local_rank)).why; }

void use_device(at::Device device, bool is_deterministic) {
  if (!device.is_cuda()) return;
  c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  at::Context& context = at::globalContext();
  context.setBenchmarkCuDNN(false);  // its choice differs from run to run
  context.setDeterministicCuDNN(is_deterministic);
  context.setAllowTF32CuDNN(false);
  if (!is_deterministic) return;
  // Read when the first handle of cuBLAS is made: one workspace, one order of adding.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  // Filling memory that is about to be written would only find mistakes.
  context.setDeterministicFillUninitializedMemory(false);
}

void use_threads(const ComputeConfig& config, int local_ranks) {
  int threads = static_cast<int>(config.threads_per_rank);
  if (threads == 0) threads = std::max(1, cores_per_rank(local_ranks));
  at::set_num_threads(threads);
  set_batch_invariant(config.batch_invariant);
}

}  // namespace espalier
