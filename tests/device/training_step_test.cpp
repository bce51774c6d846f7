// A training step asks nothing of a GPU that would make the host wait for it, and computes there
// what it computes on the CPU.
#include <functional>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "real_things.h"
#include "tests/device/device_training.h"
#include "toy_room.h"
#include "trainer/errors.h"
#include "world_things.h"

namespace espalier {
namespace {

// A stage that is trained, and what one of its micro-batches may send to the device.
struct Case {
  std::string name;
  std::function<RunConfig()> config;
  size_t stage = 0;
  int64_t uploads = 1;
};
void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

RunConfig lines_every(RunConfig config, int64_t steps) {
  config.log.every_steps = steps;
  config.log.tensorboard = false;
  for (StageConfig& stage : config.stages) stage.steps = 100;
  return config;
}

const WorldFiles& world_files(bool is_discrete) {
  static const WorldFiles continuous, discrete(true);
  return is_discrete ? discrete : continuous;
}

std::vector<Case> cases() {
  const auto small = [] { return lines_every(small_config(fresh_directory("run")), 10); };
  const auto world = [](bool is_discrete, std::vector<std::string> sets) {
    return [=] {
      const WorldFiles& files = world_files(is_discrete);
      return lines_every(files.config(fresh_directory("run"), sets), 10);
    };
  };
  return {
      {"Toy", [] { return lines_every(toy_config(fresh_directory("run"), 100), 10); }, 0, 1},
      {"ImageTokenizer", small, 0, 1},
      // Besides the batch: what attention makes of the lengths of its sequences, on the thread that
      // loads, and (only here, where no fused kernel is) who sees whom as a matrix.
      {"YDecoder", small, 1, 3},
      // Besides the batch: where the words of its instructions lie, and the same of these.
      {"WorldModel", world(false, {}), 0, 4},
      {"DiscreteWorldModel", world(true, {"model.world.action_head=direct"}), 0, 4},
  };
}

class TrainingStep : public ::testing::TestWithParam<Case> {};

TEST_P(TrainingStep, MakesTheHostWaitForNothingAndUploadsFromPinnedMemory) {
  DeviceTraining training(GetParam().config(), GetParam().stage, simulated_device());
  training.train(3);
  constexpr int64_t kSteps = 5;
  const DeviceTraffic traffic = training.train(kSteps);
  EXPECT_EQ(traffic.waits, 0) << to_string(traffic);
  EXPECT_EQ(traffic.pageable_uploads, 0) << to_string(traffic);
  // The thread that loads may be two steps ahead.
  const int64_t slots = training.stage().config().slots();
  EXPECT_LE(traffic.uploads, GetParam().uploads * slots * (kSteps + 2)) << to_string(traffic);
}

TEST_P(TrainingStep, IsReadOnceForEveryLineOfTheLog) {
  DeviceTraining training(GetParam().config(), GetParam().stage, simulated_device());
  training.train(2);                                 // the first step is a line of its own
  const DeviceTraffic traffic = training.train(20);  // lines of steps 10 and 20
  EXPECT_EQ(traffic.waits, 2) << to_string(traffic);
  const std::vector<StepReport>& reports = training.reports();
  ASSERT_EQ(reports.size(), 21U);
  EXPECT_GT(reports[19].total_loss, 0);
  EXPECT_GT(reports[19].grad_norm, 0);
  EXPECT_NE(reports[19].grad_norm, reports[18].grad_norm);
  EXPECT_EQ(reports[18].losses, reports[17].losses);  // as they were known last
}

TEST_P(TrainingStep, ComputesWhatTheCpuComputes) {
  DeviceTraining device(GetParam().config(), GetParam().stage, simulated_device());
  DeviceTraining cpu(GetParam().config(), GetParam().stage, at::kCPU);
  for (DeviceTraining* training : {&device, &cpu}) {
    training->train(10);
    training->loop().flush_report();
  }
  const StepReport &actual = device.reports().back(), &expected = cpu.reports().back();
  ASSERT_EQ(actual.step, expected.step);
  for (const auto& [name, loss] : expected.losses) {
    EXPECT_NEAR(actual.losses.at(name), loss, 2e-3 * std::abs(loss) + 1e-5) << name;
  }
  EXPECT_NEAR(actual.grad_norm, expected.grad_norm, 2e-2 * expected.grad_norm);
  EXPECT_EQ(actual.learning_rate, expected.learning_rate);
}

INSTANTIATE_TEST_SUITE_P(, TrainingStep, ::testing::ValuesIn(cases()),
                         [](const auto& one) { return one.param.name; });

RunConfig toy(const std::string& name, std::vector<int64_t> bad_steps, int64_t max_bad_steps) {
  RunConfig config =
      lines_every(toy_config(fresh_directory(name), 100, {.bad_steps = std::move(bad_steps)}), 10);
  config.compute.max_bad_steps = max_bad_steps;
  return config;
}

TEST(StepThatIsNotFinite, ChangesNothingWithoutTheHostKnowing) {
  DeviceTraining device(toy("device", {5, 8}, 10), 0, simulated_device());
  DeviceTraining cpu(toy("cpu", {5, 8}, 10), 0, at::kCPU);
  device.train(5);
  cpu.train(5);
  const TensorMap before = device.state();
  const TensorMap loop_before = device.loop_state();
  EXPECT_EQ(device.train(1).waits, 0);
  EXPECT_EQ(first_difference(device.state(), before), "");
  EXPECT_EQ(first_difference(device.loop_state(), loop_before), "");
  device.train(6);
  cpu.train(7);
  const TensorMap expected = cpu.state();
  for (const auto& [name, tensor] : device.state()) {
    EXPECT_TRUE(torch::allclose(tensor, expected.at(name), 1e-4, 1e-6)) << name;
  }
}

TEST(StepThatIsNotFinite, EndsTheRunWhenTooManyAreReadAndTheNumberIsKept) {
  DeviceTraining kept(toy("kept", {5, 6}, 3), 0, simulated_device());
  kept.train(7);
  kept.loop().flush_report();
  EXPECT_EQ(kept.loop().bad_steps(), 2);
  EXPECT_TRUE(kept.reports().back().skipped);
  kept.train(1);
  kept.loop().flush_report();
  EXPECT_EQ(kept.loop().bad_steps(), 0);

  DeviceTraining ended(toy("ended", {5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, 3), 0, simulated_device());
  try {
    ended.train(14);
    FAIL() << "went on without finite losses";
  } catch (const NumericError& error) {
    EXPECT_NE(std::string(error.what()).find("in a row, from step 5 on"), std::string::npos)
        << error.what();
  }
  EXPECT_LE(ended.loop().steps_done(), 5 + 2 * (3 + 1));
}

TEST(PhasesOfAStep, AreTimedInTheQueueOfTheDevice) {
  DeviceTraining training(toy("run", {}, 10), 0, simulated_device());
  const DeviceTraffic traffic = training.train(11);
  const std::map<std::string, double>& times = training.reports().back().time_s;
  for (const Phase phase : {Phase::kData, Phase::kAgree, Phase::kForwardBackward, Phase::kReduce,
                            Phase::kOptimizer, Phase::kStatistics}) {
    EXPECT_GT(times.at(std::string(name_of(phase))), 0) << name_of(phase);
  }
  EXPECT_EQ(traffic.waits, 2) << to_string(traffic);  // lines of steps 1 and 10
}

TEST(CheckpointOfADevice, IsCopiedInItsQueueAndWaitedForByTheThreadThatWrites) {
  DeviceTraining training(toy("run", {}, 10), 0, simulated_device());
  training.train(2);
  const at::Tensor weights = training.stage().parameter_groups().front().parameters.front();
  const at::Tensor as_saved = weights.detach().to(at::kCPU).clone();
  const DeviceTraffic before = device_traffic();
  training.checkpointer().start(training.stage().state(), {{"a", 1}}, 2);
  weights.detach().add_(1);
  training.checkpointer().finish();
  const DeviceTraffic traffic = device_traffic() - before;
  EXPECT_EQ(traffic.reasons, std::vector<std::string>{"event"});
  const TensorMap saved = training.saved(2);
  EXPECT_TRUE(saved.at("model/one/trunk.weight").equal(as_saved));
}

}  // namespace
}  // namespace espalier
