#include <chrono>

#include <ATen/cuda/Sleep.h>
#include <cuda_runtime_api.h>
#include <torch/torch.h>

#include "comm/errors.h"
#include "tests/gpu/rank_checks.h"

namespace espalier {
namespace {

int64_t cycles_of(double seconds) {
  int kilohertz = 0;
  cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, 0);
  TORCH_CHECK(kilohertz > 0, "the device does not say how fast it is");
  return static_cast<int64_t>(seconds * 1e3 * kilohertz);
}

}  // namespace

nlohmann::json check_held_stream(double deadline_s, double hold_s) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  const at::Device device(at::kCUDA, 0);
  Ranks ranks({.backend = "nccl", .device = device, .deadline_s = deadline_s});
  Communicator& comm = ranks.get();
  const at::Tensor tensor = at::ones({1024}, device);
  comm.all_reduce(tensor)->wait();
  nlohmann::json found = {{"deadline_s", deadline_s}, {"held_s", hold_s}};
  at::cuda::sleep(cycles_of(hold_s));
  const auto start = Clock::now();
  try {
    comm.all_reduce(tensor)->wait();
  } catch (const Timeout& error) {
    found["given_up_after_s"] = since(start);
    found["message"] = error.what();
    TORCH_CHECK(since(start) < 0.8 * hold_s, "the operation was given up only after ", since(start),
                " s, when the kernel that held its stream had ended");
    return found;
  }
  TORCH_CHECK(false, "the operation ended well after ", since(start),
              " s, in spite of a deadline of ", deadline_s, " s");
}

}  // namespace espalier
