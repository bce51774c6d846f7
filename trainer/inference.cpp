#include "trainer/inference.h"

#include <filesystem>

#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/errors.h"
#include "trainer/record/run_directory.h"

namespace espalier {

Stage& InferenceRun::stage_of_kind(const std::string& kind) const {
  for (size_t i = 0; i < stages.size(); ++i) {
    if (config->stages[i].kind == kind) return *stages[i];
  }
  throw ConfigError(checkpoint + " holds no stage of kind " + kind +
                    ": the run has not come to it yet, or its config has none");
}

InferenceRun load_for_inference(const std::string& run_directory,
                                const std::vector<std::string>& sets, const StageFactory& factory) {
  if (!std::filesystem::exists(run_directory + "/config.toml")) {
    throw ConfigError(run_directory + " is not a run directory: it has no config.toml");
  }
  if (list_checkpoints(RunDirectory::checkpoints(run_directory)).empty()) {
    throw ConfigError(run_directory + " has no checkpoint yet");
  }
  InferenceRun run;
  run.config = std::make_unique<RunConfig>(load_run_config(run_directory + "/config.toml", sets));
  run.config->directory = run_directory;  // it may have moved since
  run.comm = make_single_communicator();
  const LoadedCheckpoint checkpoint = load_checkpoint_at(*run.comm, run_directory);
  const RunPosition position = read_position(checkpoint, *run.config);
  run.checkpoint = checkpoint.path;
  run.global_step = checkpoint.step;
  const at::Device device = choose_device(run.config->compute, 0);
  use_device(device);
  for (int64_t i = 0; i <= position.stage_index; ++i) {
    const StageConfig& config = run.config->stages[static_cast<size_t>(i)];
    std::vector<Stage*> earlier;
    for (const auto& stage : run.stages) earlier.push_back(stage.get());
    run.stages.push_back(
        factory({*run.config, config, device, *run.comm, std::move(earlier), false}));
    restore_stage(checkpoint, config, *run.stages.back());
    restore_average(checkpoint, config, *run.stages.back());
  }
  return run;
}

nlohmann::json evaluate_run(const InferenceRun& run, EvaluationRequest request) {
  const torch::NoGradGuard no_grad;
  std::filesystem::create_directories(request.directory);
  request.is_final = true;
  nlohmann::json merged = nlohmann::json::object();
  for (size_t i = 0; i < run.stages.size(); ++i) {
    request.picture_prefix = run.config->stages[i].name;
    nlohmann::json result = run.stages[i]->evaluate(*run.comm, request);
    for (const auto& picture : result.value("pictures", nlohmann::json::array())) {
      merged["pictures"].push_back(picture);
    }
    result.erase("pictures");
    merged.update(result);
  }
  return merged;
}

}  // namespace espalier
