#include "trainer/host/device.h"

#include <algorithm>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/host/cores.h"

namespace espalier {

at::Device choose_device(const ComputeConfig& config, int local_rank) {
  const bool has_gpu = torch::cuda::is_available();
  if (config.device == "cuda" && !has_gpu) {
    throw ConfigError(
        "compute.device = \"cuda\", but LibTorch sees no GPU here; `espalier doctor` "
        "tells why");
  }
  if (config.device == "cpu" || !has_gpu) return at::kCPU;
  const auto count = static_cast<int>(torch::cuda::device_count());
  return {at::kCUDA, static_cast<c10::DeviceIndex>(local_rank % count)};
}

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
