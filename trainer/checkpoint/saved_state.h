#pragma once

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "models/weights/safetensors.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/config/run_config.h"
#include "trainer/stage.h"

namespace espalier {

// Where a run is: state.json of a checkpoint.
struct RunPosition {
  int64_t stage_index = 0;
  int64_t stage_step = 0;    // steps of that stage done
  bool is_complete = false;  // the stage is done, and its weights are final
  int64_t bad_steps = 0;     // in a row, up to here
  std::string data_fingerprint;
};

nlohmann::json state_json(const RunPosition& position, const RunConfig& config);
// Throws ConfigError when the checkpoint's stages are not those of the config.
RunPosition read_position(const LoadedCheckpoint& checkpoint, const RunConfig& config);

// "key: 1 -> 2" for settings that shape the training and differ from the checkpoint's.
std::vector<std::string> changed_settings(const LoadedCheckpoint& checkpoint,
                                          const RunConfig& config);

// Tensors of a stage and of the loop that trains it, under their names in a checkpoint.
void add_stage_state(TensorMap& all, const StageConfig& stage, const TensorMap& state);
void add_loop_state(TensorMap& all, const StageConfig& stage, const TensorMap& state);

// Copy from the checkpoint into live tensors. WeightsError names the first that do not fit.
void restore_stage(const LoadedCheckpoint& checkpoint, const StageConfig& config, Stage& stage);
void restore_loop(const LoadedCheckpoint& checkpoint, const StageConfig& config,
                  const TensorMap& state);

// For inference: averaged weights, where the checkpoint has them, become the weights.
void restore_average(const LoadedCheckpoint& checkpoint, const StageConfig& config, Stage& stage);

}  // namespace espalier
