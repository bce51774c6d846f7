#include "trainer/host/peak_flops.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

namespace espalier {
namespace {

constexpr double kTera = 1e12;

struct Peak {
  const char* gpu;  // stands in the driver's name for it
  double bf16, fp32;
};

// NVIDIA's data sheets, boost clock, without sparsity (they print bf16 with it: half of that):
// H200 and H100 (2024), A100 80GB (2021). More particular names come first.
constexpr std::array kPeaks = {
    Peak{"H200 NVL", 835.5 * kTera, 60 * kTera}, Peak{"H200", 989.5 * kTera, 67 * kTera},
    Peak{"H100 NVL", 835.5 * kTera, 60 * kTera}, Peak{"H100 PCIe", 756.5 * kTera, 51 * kTera},
    Peak{"H100", 989.5 * kTera, 67 * kTera},     Peak{"A100", 312 * kTera, 19.5 * kTera}};

}  // namespace

std::vector<std::string> gpu_names() {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/proc/driver/nvidia/gpus", none)) {
    std::ifstream file(entry.path() / "information");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("Model:")) {
        names.push_back(line.substr(line.find_first_not_of(" \t", 6)));
      }
    }
  }
  return names;
}

std::optional<double> published_peak_flops(const std::string& gpu, const std::string& precision) {
  for (const Peak& peak : kPeaks) {
    if (gpu.find(peak.gpu) == std::string::npos) continue;
    return precision == "bf16" ? peak.bf16 : peak.fp32;
  }
  return std::nullopt;
}

std::optional<double> peak_flops_of(c10::Device device, const std::string& precision) {
  if (!device.is_cuda()) return std::nullopt;
  const std::vector<std::string> names = gpu_names();
  // LibTorch's order of GPUs need not be the driver's: only where all are alike is it clear.
  const bool are_alike =
      !names.empty() && std::count(names.begin(), names.end(), names[0]) == std::ssize(names);
  return are_alike ? published_peak_flops(names[0], precision) : std::nullopt;
}

}  // namespace espalier
