#include "trainer/host/device.h"

#include <algorithm>
#include <cstdlib>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

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

void use_device(at::Device device) {
  if (!device.is_cuda()) return;
  c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
  at::globalContext().setBenchmarkCuDNN(false);  // its choice differs from run to run
  at::globalContext().setDeterministicCuDNN(true);
}

void use_threads(const ComputeConfig& config, int local_ranks) {
  int threads = static_cast<int>(config.threads_per_rank);
  if (threads == 0) threads = std::max(1, cores_per_rank(local_ranks));
  at::set_num_threads(threads);
}

}  // namespace espalier
