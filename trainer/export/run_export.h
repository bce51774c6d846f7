#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint_choice.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/config/run_config.h"

namespace espalier {

// What config.json of an export calls itself.
inline constexpr const char* kExportFormat = "espalier-export-1";
// The "model_type" there of an export with exactly one decoder, which `espalier forward` runs.
inline constexpr const char* kUnifiedModelType = "espalier_unified";

enum class WeightChoice {
  kAveragesIfAny,
  kAverages,  // ConfigError where the checkpoint has none
  kRaw,       // ConfigError where only averages are left
};

// "MODEL/NAME" -> tensor, of every model that the checkpoint has weights of.
TensorMap model_weights(const LoadedCheckpoint& checkpoint, const RunConfig& config,
                        WeightChoice choice);

struct ExportRequest {
  std::string run;
  CheckpointChoice checkpoint = {};
  WeightChoice weights = WeightChoice::kAveragesIfAny;
  int64_t max_shard_bytes = 4'000'000'000;
  std::string to = {};
  std::string commit = {};  // of the program
};

struct ExportResult {
  std::string checkpoint;
  std::vector<std::string> files;
  int64_t tensors = 0, bytes = 0;
};

// Writes the models of a run, as one of its checkpoints has them, as plain safetensors: a tensor is
// called MODEL.NAME, "tokenizer.encoder.stem.weight". Beside them config.json, with what it takes
// to build the models again.
ExportResult export_run(const ExportRequest& request);

}  // namespace espalier
