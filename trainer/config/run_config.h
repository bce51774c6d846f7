#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/images/image.h"
#include "trainer/config/deadline_settings.h"
#include "trainer/config/kind_settings.h"
#include "trainer/config/settings.h"

namespace espalier {

// Defaults stand here; names, ranges and help beside them in run_settings.cpp. Settings of one kind
// of model, objective or teacher stand in the folder of that kind.

// [data.NAME]: images and what is written about them, in three splits.
struct DataConfig {
  std::string name;
  std::vector<std::string> train, validation, test;
  int64_t image_size = 0;  // after loading never 0: that of the models that read it
  std::vector<std::string> rename;
  std::string image_root, image_field;
  std::string fit = "pad";
  std::string check = "auto";
  std::string cache;
  int64_t memory_mib = 2048;
  int64_t shuffle_window = 0;
  std::string on_bad_sample = "fail";

  const std::vector<std::string>& split(const std::string& which) const;
  SquareFit square_fit() const;
};

// [text.NAME]: a text tokenizer, trained on what a data set says.
struct TextConfig {
  std::string name;
  std::string file;
  std::string end_token;
  std::string data;
  int64_t vocabulary_size = 1024;
  std::vector<std::string> fields = {"caption", "keywords", "messages"};
  std::vector<std::string> frequent_fields;
  std::vector<std::string> phrases;
};

// [episodes.NAME]: demonstrations of a simulator, and how it is driven.
struct EpisodesConfig {
  std::string name;
  std::string path;
  std::vector<std::string> tasks;
  std::string python;
  std::string script = "data/simulators/bridge.py";
  std::vector<std::string> arguments;
};

// [teacher.NAME]: a frozen network whose features others learn from.
struct TeacherConfig {
  std::string name;
  std::string kind;
  std::string weights;
  std::string cache;
};

// [model.NAME]: what stages train, and others read frozen.
struct ModelConfig {
  std::string name;
  std::string kind;
  std::shared_ptr<KindSettings> settings;
};

struct CheckpointConfig {
  int64_t every_steps = 200;
  int64_t keep = 2;
  std::string best;
  std::string best_mode = "auto";
  bool shared = true;
  std::string resume = "auto";
};

struct LogConfig {
  int64_t every_steps = 10;
  bool tensorboard = true;
};

struct EvaluationConfig {
  int64_t every_steps = 0;
  int64_t max_samples = 512;
};

// Measures of how much objectives disturb each other (docs/interference.md).
struct InterferenceConfig {
  int64_t every_steps = 0;
  double budget = 0.03;
  int64_t alignment_samples = 256;
  int64_t neighbours = 10;
};

struct ComputeConfig {
  std::string device = "auto";
  int64_t threads_per_rank = 0;
  std::string communicator = "auto";
  bool share_gpu = false;
  double bucket_mib = 0;
  int64_t prefetch = 2;
  int64_t max_bad_steps = 10;
  bool deterministic = true;
  bool batch_invariant = true;
};

struct OptimizerConfig {
  double learning_rate = 1e-3;
  double final_fraction = 0.05;
  int64_t warmup_steps = 50;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.05;
  std::vector<std::string> rate_factors;
  std::vector<std::string> no_decay = {"*embedding*", "*image_marks", "*position", "*mask_token"};
  double clip_norm = 1.0;
};

// [[stage.objectives]]: one of the objectives that a stage mixes.
struct ObjectiveConfig {
  std::string name;  // the kind, unless the file gives one
  std::string kind;
  double share = 0;
  std::shared_ptr<ObjectiveSettings> settings;
};

// [[stage]]: which model is trained, on which objectives, for how long.
struct StageConfig {
  std::string name;
  std::string trains;
  std::vector<std::string> freeze;
  std::vector<std::string> freeze_schedule;
  int64_t steps = 1000;
  int64_t batch_size = 96;
  int64_t micro_batch_size = 16;
  int64_t tokens_per_pass = 0;
  std::string precision = "fp32";
  double ema_decay = 0.0;
  int64_t early_stop_patience = 0;
  OptimizerConfig optimizer;
  std::vector<ObjectiveConfig> objectives;

  int64_t slots() const { return batch_size / micro_batch_size; }
};

// Everything one run is made from. Made by load_run_config(); tests may fill it by hand.
struct RunConfig {
  int64_t seed = 1;
  std::string directory = "runs/default";
  std::vector<DataConfig> data;
  std::vector<TextConfig> texts;
  std::vector<EpisodesConfig> episodes;
  std::vector<TeacherConfig> teachers;
  std::vector<ModelConfig> models;
  CheckpointConfig checkpoint;
  LogConfig log;
  EvaluationConfig evaluation;
  InterferenceConfig interference;
  ComputeConfig compute;
  DeadlineConfig deadline;
  std::vector<StageConfig> stages;

  std::string resolved;   // TOML of every setting with where each came from
  nlohmann::json values;  // the same by key, to compare a resumed run with its checkpoint

  // By name; ConfigError with the names there are. `asked_by` says whose setting it was.
  const DataConfig& data_named(const std::string& name, const std::string& asked_by) const;
  const TextConfig& text_named(const std::string& name, const std::string& asked_by) const;
  const EpisodesConfig& episodes_named(const std::string& name, const std::string& asked_by) const;
  const TeacherConfig& teacher_named(const std::string& name, const std::string& asked_by) const;
  const ModelConfig& model_named(const std::string& name, const std::string& asked_by) const;
  const StageConfig& stage_named(const std::string& name) const;
};

// Reads the file, applies the --set arguments in order, checks every value by itself and every name
// that refers to another thing. Throws ConfigError with file and line.
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& sets = {});

// What needs the world size: batches that divide. Throws ConfigError with the nearest right sizes.
void validate_for_world(const RunConfig& config, int world_size);
// Whether every stage's batch is whole micro-batches for so many ranks.
bool divides_batches(const RunConfig& config, int world_size);

// Names that refer to nothing, kinds that do not fit: what is wrong before any data is read.
void validate(const RunConfig& config);

// Data sets that say no size of their images get that of the models that stages train on them, so
// that one number decides it. ConfigError where two models of different sizes read one.
void derive_image_sizes(RunConfig& config);

// Fields that some objective of the run needs of a data set: samples without them are bad in every
// stage, so that all stages see the same samples, and a missing field is found before training.
std::vector<std::string> fields_needed(const RunConfig& config, const std::string& data);

// Binds every setting to its field in `config`, whose named things must be there.
Settings declare_settings(RunConfig& config);

// A config with one of everything that can be declared, each named after its kind or "NAME": for
// the reference page and `config explain`.
RunConfig example_config();

}  // namespace espalier
