#pragma once

#include <cstdint>
#include <string>

#include "models/decoder/y_model.h"
#include "models/hugging_face/weight_folder.h"
#include "models/image_tokenizer/image_tokenizer.h"

namespace espalier {

// The decoder of an export (trainer/export/run_export.h) and the frozen image tokenizer whose codes
// it reads: their names in the folder and what they are built from.
struct ExportedDecoder {
  std::string name, tokenizer;  // tensors are called NAME.PARAMETER
  // Branches in alphabetical order, whatever their order in the run's config was.
  YModelOptions options;
  ImageTokenizerOptions image;
};

// From FOLDER/config.json and, what texts decided, the shape of the embedding. WeightsError that
// names file and key for a folder of another format, one without exactly one decoder, and a missing
// tensor; ConfigError for settings that cannot be.
ExportedDecoder read_exported_decoder(const std::string& folder, const WeightFolder& weights);

// With all its weights. WeightsError for a tensor that is missing, of another shape, or that the
// decoder has no place for.
YModel load_exported_decoder(WeightFolder& weights, const ExportedDecoder& exported);

// With codebooks and semantic decoder, which are all that a decoder asks it for: the rest is not
// read.
ImageTokenizer load_exported_tokenizer(WeightFolder& weights, const ExportedDecoder& exported);

}  // namespace espalier
