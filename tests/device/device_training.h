#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "models/weights/safetensors.h"
#include "tests/device/simulated_device.h"
#include "trainer/checkpoint/checkpointer.h"
#include "trainer/config/run_config.h"
#include "trainer/named/named_things.h"
#include "trainer/run_observer.h"
#include "trainer/stage.h"
#include "trainer/update/step_loop.h"

namespace espalier {

// A stage of a run at work on a device, by the real step loop, on one rank.
class DeviceTraining {
 public:
  DeviceTraining(RunConfig config, size_t stage, at::Device device);

  // What `steps` steps asked of the device.
  DeviceTraffic train(int64_t steps);
  StepLoop& loop() { return *loop_; }
  Stage& stage() { return *stage_; }
  const std::vector<StepReport>& reports() const { return observer_.reports; }
  Checkpointer& checkpointer() { return *checkpointer_; }
  // Copies on the CPU of parameters and buffers; of moments and averages.
  TensorMap state();
  TensorMap loop_state();
  // Tensors of a checkpoint that was committed.
  TensorMap saved(int64_t step) const;

 private:
  struct Observer : RunObserver {
    std::vector<StepReport> reports;
    void on_step(const StepReport& report) override { reports.push_back(report); }
  };

  RunConfig config_;
  std::unique_ptr<Communicator> comm_;
  Observer observer_;
  std::unique_ptr<NamedThings> things_;
  std::unique_ptr<Stage> stage_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<StepLoop> loop_;
};

}  // namespace espalier
