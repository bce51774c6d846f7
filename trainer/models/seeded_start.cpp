#include "trainer/models/seeded_start.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

namespace espalier {

namespace {

std::recursive_mutex& turn() {
  static std::recursive_mutex mutex;
  return mutex;
}

}  // namespace

SeededStart::SeededStart(uint64_t seed)
    : turn_(turn()), before_(at::detail::getDefaultCPUGenerator().get_state()) {
  torch::manual_seed(seed);
}

SeededStart::~SeededStart() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  generator.set_state(before_);
}

}  // namespace espalier
