#include "trainer/memory_need.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr double kBytesOfNumber = 4;  // fp32
constexpr double kTrainingCopies = 4;

// Weights are drawn in host memory wherever they are trained.
bool trains_in_host_memory(const RunConfig& config) {
  return config.compute.device == "cpu" ||
         (config.compute.device == "auto" && !torch::cuda::is_available());
}

std::string in_units(double number, double unit, const char* name) {
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", number / unit, name);
  return text.data();
}

}  // namespace

double memory_of_this_machine() {
  return static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<double>(::sysconf(_SC_PAGE_SIZE));
}

void require_memory(const RunConfig& config) {
  const double memory = memory_of_this_machine();
  const bool in_host_memory = trains_in_host_memory(config);
  for (const ModelConfig& model : config.models) {
    const ModelKind& kind = registry().model(model.kind, "model." + model.name);
    if (kind.least_numbers == nullptr) continue;
    const bool is_trained =
        std::any_of(config.stages.begin(), config.stages.end(),
                    [&](const StageConfig& stage) { return stage.trains == model.name; });
    const bool is_whole = in_host_memory && is_trained;
    const double numbers = kind.least_numbers(model);
    const double bytes = numbers * kBytesOfNumber * (is_whole ? kTrainingCopies : 1);
    if (bytes <= memory) continue;
    throw ConfigError(
        "model." + model.name + " has at least " + in_units(numbers, 1e9, "thousand million") +
        " parameters, which take " + in_units(bytes, 1 << 30, "GiB") +
        (is_whole ? " with gradients and optimizer" : "") + "; this machine has " +
        in_units(memory, 1 << 30, "GiB") + " of memory; make it smaller: widths (model." +
        model.name + ".width) count twice, layers once");
  }
}

}  // namespace espalier
