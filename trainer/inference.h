#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/images/image.h"
#include "trainer/checkpoint/checkpoint_choice.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/config/run_config.h"
#include "trainer/evaluation/section.h"
#include "trainer/named/named_things.h"
#include "trainer/run_observer.h"

namespace espalier {

// A run as one of its checkpoints left it, ready to be asked: `espalier evaluate`, `caption`,
// `draw`. Weights are the averaged ones where the run keeps an average.
struct InferenceRun {
  std::unique_ptr<RunConfig> config;  // things refer to it
  std::unique_ptr<Communicator> comm;
  LoadedCheckpoint checkpoint;
  int64_t stage_index = 0;  // the stage that the checkpoint was made in
  std::unique_ptr<NamedThings> things;
};

struct InferenceRequest {
  std::string run;  // its directory
  CheckpointChoice checkpoint = {};
  std::vector<std::string> sets = {};  // as in --set
  std::vector<std::string> data = {};  // unless empty: shards in place of every test split
  WorkListener on_work = {};
};

// ConfigError when it is not a run, or has no such checkpoint.
InferenceRun load_for_inference(const InferenceRequest& request);

// Which evaluations are asked for.
struct EvaluationChoice {
  std::vector<std::string> stages = {};      // names; empty = the last that trained each model
  std::vector<std::string> objectives = {};  // names; empty = all of these stages
  std::string directory = {};                // for pictures; created
};

struct StageEvaluation {
  std::string stage;
  std::vector<Section> sections;
};

// The final evaluations, on the test split. ConfigError for a stage that the run has not come to.
std::vector<StageEvaluation> evaluate_run(const InferenceRun& run, const EvaluationChoice& choice);

// The last objective of a kind in the stages that the checkpoint has come to, and its model.
// ConfigError when there is none.
struct AskedObjective {
  const StageConfig* stage = nullptr;
  const ObjectiveConfig* objective = nullptr;
};
AskedObjective last_of_kind(const InferenceRun& run, const std::string& kind);

// Pictures of any size as the training data of an objective were fitted.
std::vector<Image> fit_pictures(const InferenceRun& run, const AskedObjective& asked,
                                const std::vector<Image>& pictures);

// One caption per image, through the branch of the run's last objective of kind "caption".
// ConfigError when the run has none, or has not come to it.
std::vector<std::string> caption_images(const InferenceRun& run, const std::vector<Image>& images);

// What was shown and said.
struct Talk {
  std::vector<Image> pictures = {};  // of any size
  std::vector<Message> messages = {};

  void show(const Image& picture);
  void say(const std::string& text);  // by the user
};

// One picture per talk, what the assistant shows next, through the branch and with the sampling
// settings of the run's last objective of kind "draw". Where that draws from captions, what was
// said last is the caption, and pictures are a ConfigError.
std::vector<Image> draw_after(const InferenceRun& run, const std::vector<Talk>& talks,
                              uint64_t seed);

}  // namespace espalier
