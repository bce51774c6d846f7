#pragma once

#include <string>

#include "trainer/export/run_export.h"

namespace espalier {

// Writes the trunk and one text branch of a Y-shaped decoder of the run as an ordinary Qwen2 or
// Llama, the folder that `transformers` opens: config.json, safetensors and, where the run keeps
// one, tokenizer.json. What reads images is left out. `branch` is BRANCH, or MODEL.BRANCH where
// several models have such a branch. ConfigError when there is no such branch, when it predicts
// codes, or when it has other sizes than the trunk.
ExportResult export_decoder(const ExportRequest& request, const std::string& branch);

}  // namespace espalier
