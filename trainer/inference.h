#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "trainer/config/run_config.h"
#include "trainer/run.h"
#include "trainer/stage.h"

namespace espalier {

// A run as its newest good checkpoint left it, ready to be asked: `espalier evaluate`, `caption`,
// `draw`. Weights are the averaged ones where the run keeps an average.
struct InferenceRun {
  std::unique_ptr<RunConfig> config;  // stages refer to it
  std::unique_ptr<Communicator> comm;
  std::vector<std::unique_ptr<Stage>>
      stages;  // those the checkpoint has, in the order of the config
  std::string checkpoint;
  int64_t global_step = 0;

  // The stage of that kind ("tokenizer", "unified"); ConfigError when the run has not come to it.
  Stage& stage_of_kind(const std::string& kind) const;
};

// ConfigError when `run_directory` is not a run, or has no checkpoint. `sets` as in --set.
InferenceRun load_for_inference(const std::string& run_directory,
                                const std::vector<std::string>& sets = {},
                                const StageFactory& factory = make_stage);

// Every stage's final evaluation, merged: the objects of report.json. `request.directory` is
// created.
nlohmann::json evaluate_run(const InferenceRun& run, EvaluationRequest request);

}  // namespace espalier
