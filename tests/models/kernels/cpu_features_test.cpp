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

TEST(CpuFeatures, Bf16IsFastWhereLinuxSeesInstructionsForIt) {
  EXPECT_EQ(bf16_is_fast(), linux_sees("avx512_bf16") || linux_sees("amx_bf16"));
}

}  // namespace
}  // namespace espalier::kernels
