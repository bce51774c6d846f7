// The tool itself: that it counts what a GPU would make the host wait for, and computes rightly.
#include "tests/device/simulated_device.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace espalier {
namespace {

template <class Work>
DeviceTraffic traffic_of(const Work& work) {
  const DeviceTraffic before = device_traffic();
  work();
  return device_traffic() - before;
}

TEST(SimulatedDevice, CountsWhatMakesTheHostWait) {
  const at::Tensor x = torch::tensor({0.0, 2.0, 3.0}).to(simulated_device());
  EXPECT_EQ(traffic_of([&] { x.sum().item<double>(); }).waits, 1);
  EXPECT_EQ(traffic_of([&] { x.nonzero(); }).waits, 1);
  EXPECT_EQ(traffic_of([&] { x.index({x.gt(1)}); }).waits, 1);  // a mask: nonzero inside
  EXPECT_EQ(traffic_of([&] { x.to(at::kCPU); }).waits, 1);
  EXPECT_EQ(traffic_of([&] { x.equal(x + 1); }).waits, 1);
  EXPECT_EQ(traffic_of([&] {
              (x * 2).exp().softmax(0).index_select(0, x.to(at::kLong).clamp(0, 1));
            }).waits,
            0);
}

TEST(SimulatedDevice, TellsPinnedUploadsFromOthers) {
  const at::Tensor host = torch::arange(6);
  const DeviceTraffic pageable = traffic_of([&] { host.to(simulated_device()); });
  EXPECT_EQ(pageable.uploads, 1);
  EXPECT_EQ(pageable.pageable_uploads, 1);
  EXPECT_EQ(pageable.uploaded_bytes, 48);
  const at::Tensor pinned = host.pin_memory();
  const DeviceTraffic fast =
      traffic_of([&] { pinned.to(simulated_device(), /*non_blocking=*/true); });
  EXPECT_EQ(fast.uploads, 1);
  EXPECT_EQ(fast.pageable_uploads, 0);
}

TEST(SimulatedDevice, ComputesAndDifferentiatesAsTheCpuDoes) {
  torch::manual_seed(1);
  const at::Tensor x = torch::randn({6, 4}), w = torch::randn({3, 4});
  const auto gradient = [&](at::Device device) {
    const at::Tensor weight = w.to(device).detach().requires_grad_();
    const at::Tensor y = torch::linear(x.to(device), weight).view({2, 3, 3}).transpose(1, 2);
    y.tanh().flatten(1).log_softmax(1).square().sum().backward();
    return weight.grad().to(at::kCPU);
  };
  EXPECT_TRUE(gradient(at::kCPU).equal(gradient(simulated_device())));
}

}  // namespace
}  // namespace espalier
