#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/run.h"
#include "trainer/stage.h"

namespace espalier {

struct ToyOptions {
  int64_t width = 8;
  std::set<int64_t> bad_steps = {};  // the loss of slot 0 is not finite in these
  int64_t broken_state_at = -1;      // after this step a statistic is not finite
  int64_t dies_at = -1;              // losses() throws in this step of the second stage
};

// A small real model with what makes a training hard to resume: a trunk and two branches of which a
// slot uses one, dropout keyed by (step, slot), and a statistic outside of the gradients.
class ToyStage : public Stage {
 public:
  ToyStage(const StageContext& context, ToyOptions options);

  std::vector<ParameterGroup> parameter_groups() override;
  std::vector<std::string> loss_names() const override { return {"left", "right"}; }
  std::vector<double> loss_weights() const override { return {1.0, 0.5}; }
  std::unique_ptr<MicroBatch> load(int64_t step, int64_t slot) override;
  std::vector<at::Tensor> losses(const MicroBatch& batch, int64_t step) override;
  void after_optimizer(Communicator& comm, int64_t step) override;
  void skip_step(int64_t step) override;
  TensorMap state() override;
  nlohmann::json evaluate(Communicator& comm, const EvaluationRequest& request) override;
  std::string data_fingerprint() const override { return "toy"; }

 private:
  const RunConfig& config_;
  const StageConfig& stage_;
  ToyOptions options_;
  bool is_second_;
  at::Tensor trunk_, trunk_bias_, left_, right_, mean_, gathered_;
};

StageFactory toy_factory(ToyOptions options = {});

// A run of toy stages in `directory`: 12 samples a step in 6 slots, 2 stages of `steps` steps.
RunConfig toy_config(const std::string& directory, int64_t steps);

struct ToyResult {
  RunOutcome outcome = RunOutcome::kFinished;
  std::map<int64_t, double> losses;    // the total of every reported step, by global step
  std::vector<nlohmann::json> events;  // of this training; its directory may hold older ones
};

// Trains on `world` ranks that are threads. `stop_after` >= 0: the last rank asks to stop when that
// many steps are done.
ToyResult train_toy(const RunConfig& config, int world, int64_t stop_after = -1,
                    const StageFactory& factory = toy_factory());

// All of events.jsonl.
std::vector<nlohmann::json> read_events(const std::string& directory);

// All tensors of the newest checkpoint of a run.
TensorMap newest_tensors(const std::string& directory);

// "" when both maps have the same names, shapes, types and bits; else what differs first.
std::string first_difference(const TensorMap& a, const TensorMap& b);

// A fresh directory under the test's temporary folder.
std::string fresh_directory(const std::string& name);

}  // namespace espalier
