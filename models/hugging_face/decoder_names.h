#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/decoder/y_model.h"

namespace espalier {

class WeightFolder;

// A tensor of a Hugging Face decoder and where it stands in a Y-shaped one: some rows of a
// parameter, since queries, keys and values are one matrix here, as are gate and up.
struct DecoderName {
  std::string theirs;  // "model.layers.0.self_attn.q_proj.weight"
  std::string ours;    // "trunk.0.query_key_value.weight", as in named_parameters()
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t layer = -1;  // of the decoder, -1 = of none

  // Of our tensor, or of its gradient: a view.
  at::Tensor part_of(const at::Tensor& whole) const { return whole.narrow(0, first_row, rows); }
};

// The trunk and one branch as one decoder of Qwen2's or Llama's kind, in the order of the layers.
// A branch that predicts codes has no lm_head. Names only: images' parameters are not among them.
std::vector<DecoderName> decoder_names(const YModelOptions& options, int64_t branch);

// Fills a Y-shaped decoder with the weights of a decoder: layers up to the fork go into the trunk,
// the layers above it into every branch whose layers are of the trunk's sizes, with the final norm;
// branches deeper than what is left keep their own start for the rest. Reads every tensor straight
// into its place. WeightsError for a tensor that is missing, of another shape, or that the model
// has no place for.
void load_decoder(WeightFolder& weights, YModel& model);

}  // namespace espalier
