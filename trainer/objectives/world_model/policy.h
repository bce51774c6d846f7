#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/order/random.h"
#include "trainer/models/world_model.h"
#include "trainer/simulator/simulator_client.h"

namespace espalier {

// A world model that acts in E environments at once, remembering what they showed in the last K
// steps. What it does in one depends on nothing that happens in the others.
class WorldPolicy {
 public:
  struct Options {
    // Act by the mean of all chunks that spoke of a step (Zhao et al. 2023, ACT).
    bool ensemble = false;
    // Of discrete actions whose head gives logits; 0 = the likeliest. It is that many times as high
    // as an environment has shown the same: who goes in circles tries something else.
    double temperature = 0.0;
    std::string precision;  // as StageConfig has it: that of the training
  };
  WorldPolicy(WorldModel& model, uint64_t seed, Options options);

  // Episodes begin; their seeds key what is random about their actions.
  void start(const std::vector<std::string>& instructions, const std::vector<int64_t>& seeds);

  struct Answer {
    at::Tensor actions;  // (E, A) fp32 on the CPU; zeros where an environment is not active
    at::Tensor dreamt;   // (E, V, patches, 3 patch^2) fp32, or undefined without dynamic queries
  };
  // What the environments show now, in which of them an action is wanted: rising numbers.
  Answer act(const Observation& observation, const std::vector<int64_t>& active);

 private:
  WorldInputs inputs(const at::Tensor& active) const;
  at::Tensor noise(const std::vector<int64_t>& active) const;
  at::Tensor blend(const at::Tensor& chunks);
  at::Tensor by_chance(const at::Tensor& logits, const Observation& observation,
                       const std::vector<int64_t>& active);
  CounterRng random(int64_t environment, uint64_t stream) const;

  WorldModel& model_;
  uint64_t seed_;
  Options options_;
  std::vector<int64_t> seeds_;
  at::Tensor words_;
  std::vector<int64_t> lengths_;
  // Of the last K steps: tokens of the images (E, observation_tokens, width), state (E, S).
  std::vector<at::Tensor> observed_, states_;
  std::vector<at::Tensor> chunks_;                     // the latest first: (E, T, A)
  std::vector<std::map<std::string, int64_t>> shown_;  // of each environment: times, by digest
  int64_t time_ = 0;
};

}  // namespace espalier
