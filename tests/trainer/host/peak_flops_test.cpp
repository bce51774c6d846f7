#include "trainer/host/peak_flops.h"

#include <gtest/gtest.h>

#include "trainer/host/memory_use.h"

namespace espalier {
namespace {

TEST(PeakFlops, AreThoseOfTheDataSheetWithoutSparsity) {
  EXPECT_EQ(published_peak_flops("NVIDIA H200", "bf16"), 989.5e12);
  EXPECT_EQ(published_peak_flops("NVIDIA H100 PCIe", "bf16"), 756.5e12);
  EXPECT_EQ(published_peak_flops("NVIDIA A100-SXM4-80GB", "fp32"), 19.5e12);
}

TEST(PeakFlops, AreNotMadeUp) {
  EXPECT_FALSE(published_peak_flops("NVIDIA GeForce GTX 1080", "fp32"));
  EXPECT_FALSE(peak_flops_of(c10::Device(c10::kCPU), "fp32"));
}

TEST(MemoryUse, OfTheHostIsItsHighWaterMark) {
  const int64_t before = peak_host_memory();
  EXPECT_GT(before, 1 << 20);
  EXPECT_GE(peak_host_memory(), before);
  EXPECT_EQ(peak_device_memory(c10::Device(c10::kCPU)), 0);
}

}  // namespace
}  // namespace espalier
