#include "models/kernels/cpu_features.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace espalier::kernels {
namespace {

// The flags that Linux read from the same processor.
bool linux_sees(const std::string& wanted) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream flags(line);
    for (std::string flag; flags >> flag;) {
      if (flag == wanted) return true;
    }
    return false;
  }
  return false;
}

TEST(CpuFeatures, Bf16IsFastOnlyWhereLinuxSeesInstructionsForIt) {
  const bool has_instructions = linux_sees("avx512_bf16") || linux_sees("amx_bf16");
  EXPECT_LE(bf16_is_fast(), has_instructions);
}

TEST(CpuFeatures, WhatRanksAgreedOnHoldsFromThenOn) {
  const bool measured = bf16_is_fast();
  for (const bool agreed : {!measured, measured}) {
    set_bf16_is_fast(agreed);
    EXPECT_EQ(bf16_is_fast(), agreed);
  }
}

}  // namespace
}  // namespace espalier::kernels
