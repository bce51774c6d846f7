#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/config/deadline_settings.h"
#include "trainer/config/settings.h"
#include "trainer/tokenizer_settings.h"
#include "trainer/unified_settings.h"

namespace espalier {

// Defaults stand here; names, ranges and help in run_config.cpp, nowhere else.
struct DataConfig {
  std::vector<std::string> train, validation, test;
  int64_t image_size = 32;
  std::string on_bad_sample = "fail";
};

struct TextConfig {
  int64_t vocabulary_size = 1024;
};

struct TeacherConfig {
  std::string weights;
  int64_t image_size = 128;
  std::string cache;
};

struct CheckpointConfig {
  int64_t every_steps = 200;
  int64_t keep = 2;
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

struct ComputeConfig {
  std::string device = "auto";
  int64_t threads_per_rank = 0;
  std::string communicator = "auto";
  int64_t bucket_kib = 4096;
  int64_t prefetch = 2;
  int64_t max_bad_steps = 10;
};

struct OptimizerConfig {
  double learning_rate = 1e-3;
  double final_fraction = 0.05;
  int64_t warmup_steps = 50;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.05;
  double clip_norm = 1.0;
};

struct StageConfig {
  std::string name;
  std::string kind;  // "tokenizer" or "unified"
  int64_t steps = 1000;
  int64_t batch_size = 96;
  int64_t micro_batch_size = 16;
  std::string precision = "fp32";
  double ema_decay = 0.0;
  OptimizerConfig optimizer;
  std::map<std::string, double> loss;   // weight by loss name
  std::map<std::string, double> tasks;  // weight by task name

  int64_t slots() const { return batch_size / micro_batch_size; }
};

// Everything one run is made from. Made by load_run_config(); tests may fill it by hand.
struct RunConfig {
  int64_t seed = 1;
  std::string directory = "runs/default";
  DataConfig data;
  TextConfig text;
  TeacherConfig teacher;
  TokenizerConfig tokenizer;
  UnifiedConfig model;
  CheckpointConfig checkpoint;
  LogConfig log;
  EvaluationConfig evaluation;
  ComputeConfig compute;
  DeadlineConfig deadline;
  std::vector<StageConfig> stages;

  std::string resolved;   // TOML of every setting with where each came from
  nlohmann::json values;  // the same by key, to compare a resumed run with its checkpoint
};

// Reads the file, applies the --set arguments in order, checks every value by itself. Throws
// ConfigError with file and line.
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& sets = {});

// What needs the world size: batches that divide. Throws ConfigError with the nearest right sizes.
void validate_for_world(const RunConfig& config, int world_size);

// Binds every setting to its field in `config`, whose stages must have name and kind.
Settings declare_settings(RunConfig& config);

// `espalier config explain [KEY]` and `--markdown`. "" = all settings with their defaults.
std::string explain_config(const std::string& key);
std::string generate_config_reference();

}  // namespace espalier
