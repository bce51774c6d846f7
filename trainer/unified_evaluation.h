#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "comm/communicator.h"
#include "trainer/unified_stage.h"

namespace espalier {

// The objects "understanding" and "generation" of the report, and "pictures". Collective: samples
// are split over ranks, the result is valid on rank 0.
//
// Held-out samples are those of request.data, or of the run's test split; seen ones are spread over
// the training set.
nlohmann::json evaluate_unified(UnifiedStage& stage, const RunConfig& config, Communicator& comm,
                                const EvaluationRequest& request);

// What follows `task`'s prompt after each image, as the most likely tokens.
std::vector<std::vector<int32_t>> write_answers(UnifiedStage& stage, UnifiedStage::Task task,
                                                const torch::Tensor& codes,
                                                const torch::Tensor& semantics, int64_t max_tokens);
std::vector<std::string> write_captions(UnifiedStage& stage, const torch::Tensor& codes,
                                        const torch::Tensor& semantics, int64_t max_tokens);

}  // namespace espalier
