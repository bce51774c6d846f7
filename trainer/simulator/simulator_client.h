#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

namespace espalier {

class BridgeProcess;

struct SimulatorOptions {
  std::string python = "python3";      // of the environment in which the simulator is installed
  std::string script;                  // data/simulators/bridge.py
  std::string simulator;               // babyai, metaworld
  std::vector<std::string> arguments;  // further ones of the script, e.g. --action-repeat 3
  // From the start to the first message: imports take seconds.
  std::chrono::milliseconds start_timeout{120'000};
  // For the answer to a step of all environments; per seed to a reset, which may load a scene; ten
  // times that per seed to an episode of the expert or at random.
  std::chrono::milliseconds answer_timeout{30'000};
};

// What E environments show: V views of H x W pixels and S numbers of proprioception.
struct Observation {
  at::Tensor images;  // uint8 (E, V, H, W, 3), on the CPU
  at::Tensor state;   // float (E, S), finite, on the CPU
};

struct ResetAnswer {
  std::vector<std::string> instructions;  // E
  std::vector<std::string> views;         // V names
  Observation observation;
};

struct StepAnswer {
  std::vector<bool> ended;    // E; an environment that has ended repeats its last frame
  std::vector<bool> success;  // E
  Observation observation;
};

struct EpisodeAnswer {
  std::vector<bool> success;   // one for each seed
  std::vector<int64_t> steps;  // until the episode ended
};

// Drives a simulator in a process of its own through the bridge (data/simulators/README.md).
// Everything throws SimulatorError: after a question that the simulator refused it can be asked
// further; after anything else (it died, is silent, answers nonsense) is_broken() and the process
// is gone. The destructor ends the process. For one thread at a time.
class SimulatorClient {
 public:
  explicit SimulatorClient(const SimulatorOptions& options);
  ~SimulatorClient();
  SimulatorClient(const SimulatorClient&) = delete;
  SimulatorClient& operator=(const SimulatorClient&) = delete;

  // Version by name, as the simulator's Python has them.
  const std::map<std::string, std::string>& packages() const { return packages_; }

  // One environment for each seed, in place of those before.
  ResetAnswer reset(const std::string& task, const std::vector<int64_t>& seeds);
  // `actions` (E, A), any dtype and device; sent as float. Environments that ended ignore theirs.
  StepAnswer step(const at::Tensor& actions);
  // Whole episodes, by the expert or by uniformly random actions. They end what reset() began.
  EpisodeAnswer expert(const std::string& task, const std::vector<int64_t>& seeds);
  EpisodeAnswer random(const std::string& task, const std::vector<int64_t>& seeds);

  bool is_broken() const;
  int pid() const;  // of the bridge

 private:
  struct Sizes {
    int64_t environments = 0;  // 0: nothing to step
    int64_t views = 0;
    int64_t height = 0;
    int64_t width = 0;
    int64_t state = 0;
  };

  void check_hello(const nlohmann::json& hello);
  Observation read_observation(const Sizes& sizes);
  EpisodeAnswer episodes(const char* kind, const std::string& task,
                         const std::vector<int64_t>& seeds);

  SimulatorOptions options_;
  std::unique_ptr<BridgeProcess> bridge_;
  std::map<std::string, std::string> packages_;
  Sizes sizes_;
};

}  // namespace espalier
