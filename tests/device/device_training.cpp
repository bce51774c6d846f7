#include "tests/device/device_training.h"

#include <filesystem>

#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/checkpoint_loader.h"

namespace espalier {
namespace {

TensorMap on_host(const TensorMap& tensors) {
  TensorMap host;
  for (const auto& [name, tensor] : tensors) host[name] = tensor.detach().to(at::kCPU).clone();
  return host;
}

}  // namespace

DeviceTraining::DeviceTraining(RunConfig config, size_t stage, at::Device device)
    : config_(std::move(config)), comm_(make_single_communicator()) {
  std::filesystem::create_directories(config_.directory);
  things_ = std::make_unique<NamedThings>(config_, *comm_, device);
  stage_ = std::make_unique<Stage>(*things_, config_.stages.at(stage), /*for_training=*/true);
  checkpointer_ = std::make_unique<Checkpointer>(
      *comm_, observer_, CheckpointerOptions{config_.directory}, [](const nlohmann::json&) {});
  loop_ = std::make_unique<StepLoop>(
      *stage_, *comm_, observer_, *checkpointer_,
      StepLoopOptions{.config = config_, .device = device, .total_steps = 1000});
}

DeviceTraffic DeviceTraining::train(int64_t steps) {
  const DeviceTraffic before = device_traffic();
  for (int64_t i = 0; i < steps; ++i) loop_->step();
  return device_traffic() - before;
}

TensorMap DeviceTraining::state() { return on_host(stage_->state()); }
TensorMap DeviceTraining::loop_state() { return on_host(loop_->state()); }

TensorMap DeviceTraining::saved(int64_t step) const {
  return load_checkpoint_at(*comm_, config_.directory + "/" + checkpoint_name(step)).tensors;
}

}  // namespace espalier
