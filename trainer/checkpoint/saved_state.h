#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "models/weights/safetensors.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/config/run_config.h"
#include "trainer/named/named_things.h"
#include "trainer/stage.h"

namespace espalier {

// Note [Names in a checkpoint]: "model/MODEL/…" are the weights of a named model,
// "objective/MODEL/OBJECTIVE/…" what an objective has of its own, "training/STAGE/optimizer/…" and
// "training/STAGE/average/…" what the stage under way needs to go on; the latter two are followed
// by the full name of the tensor they belong to.

// Where a run is: state.json of a checkpoint.
struct RunPosition {
  int64_t stage_index = 0;
  int64_t stage_step = 0;    // steps of that stage done
  bool is_complete = false;  // the stage is done, and its weights are final
  bool is_extended = false;  // it was complete, and has more steps now: its optimizer begins anew
  int64_t bad_steps = 0;     // in a row, up to here
  std::string data_fingerprint;
  nlohmann::json losses = {};  // LossMeter::state()
  nlohmann::json best = {};    // BestSoFar::state() of the stage
};

nlohmann::json state_json(const RunPosition& position, const RunConfig& config);
// Throws ConfigError when the stage it was made in is not that of the config.
RunPosition read_position(const LoadedCheckpoint& checkpoint, const RunConfig& config);
// The same to train on from. ConfigError when a finished stage has another length than then, but
// where `extends` the last of them may have become longer.
RunPosition read_position_to_train(const LoadedCheckpoint& checkpoint, const RunConfig& config,
                                   bool extends);

// Tensors of the loop that trains a stage, under their names in a checkpoint.
void add_loop_state(TensorMap& all, const StageConfig& stage, const TensorMap& state);

// The tensors whose names begin with `prefix`, without it.
TensorMap below(const TensorMap& all, const std::string& prefix);

// Copy from the checkpoint into live tensors. WeightsError names the first that do not fit.
// Every model that the checkpoint has weights of.
void restore_models(const LoadedCheckpoint& checkpoint, NamedThings& things);
// What the objectives of the stage under way have of their own.
void restore_objectives(const LoadedCheckpoint& checkpoint, Stage& stage);
void restore_loop(const LoadedCheckpoint& checkpoint, const StageConfig& config,
                  const TensorMap& state);

// What objectives of the same names left in an earlier stage: their parameters are taken over.
void inherit_objectives(const TensorMap& earlier, Stage& stage);

// Everything below "model/" and "objective/", averages where the stage under way keeps them.
TensorMap best_weights(const LoadedCheckpoint& checkpoint);

// For inference: averaged weights, where the checkpoint has them, become the weights.
void restore_average(const LoadedCheckpoint& checkpoint, const StageConfig& config,
                     NamedThings& things, Stage& stage);

}  // namespace espalier
