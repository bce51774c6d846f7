#include "models/world_model/instruction_encoder.h"

#include <algorithm>

#include "models/layers/packed_upload.h"

namespace espalier {
namespace {

constexpr double kEpsilon = 1e-5;
constexpr double kEmbeddingDeviation = 0.02;

// Where the words of padded instructions lie, once they are packed.
struct PackedWords {
  at::Tensor cells;   // (words) int64: place in the padded (B * longest)
  at::Tensor places;  // (words) int64: position in its instruction
  at::Tensor rows;    // (B, longest) int64: packed row of a cell, `words` for padding
  at::Tensor counts;  // (B) int64: words of each
};

PackedWords pack(const std::vector<int64_t>& lengths, int64_t width, const at::Device& device) {
  std::vector<int64_t> cells, places;
  std::vector<int64_t> rows(lengths.size() * static_cast<size_t>(width));
  for (size_t b = 0; b < lengths.size(); ++b) {
    for (int64_t t = 0; t < lengths[b]; ++t) {
      const int64_t cell = static_cast<int64_t>(b) * width + t;
      cells.push_back(cell);
      places.push_back(t);
      rows[static_cast<size_t>(cell)] = static_cast<int64_t>(cells.size());  // one too many
    }
  }
  const auto count = static_cast<int64_t>(cells.size());
  for (int64_t& row : rows) row = row == 0 ? count : row - 1;
  const auto batch = static_cast<int64_t>(lengths.size());
  PackedWords packed{torch::tensor(cells, at::kLong), torch::tensor(places, at::kLong),
                     torch::tensor(rows, at::kLong).view({batch, width}),
                     torch::tensor(lengths, at::kLong)};
  upload_together({&packed.cells, &packed.places, &packed.rows, &packed.counts}, device);
  return packed;
}

}  // namespace

InstructionEncoderImpl::InstructionEncoderImpl(const InstructionEncoderOptions& options)
    : options_(options) {
  words = register_module("words", torch::nn::Embedding(options.vocabulary_size, options.width));
  torch::nn::init::normal_(words->weight, 0.0, kEmbeddingDeviation);
  position = register_parameter(
      "position", torch::randn({options.longest, options.width}) * kEmbeddingDeviation);
  block = register_module("block", PreNormBlock(PreNormBlockOptions{
                                       .width = options.width,
                                       .heads = options.heads,
                                       .mlp_width = options.mlp_width,
                                       .norm_epsilon = kEpsilon,
                                   }));
  norm = register_module("norm", make_layer_norm(options.width, kEpsilon));
  out = register_module("out", make_xavier_linear(options.width, options.width));
}

at::Tensor InstructionEncoderImpl::forward(const at::Tensor& ids,
                                           const std::vector<int64_t>& lengths) {
  TORCH_CHECK(ids.dim() == 2 && ids.size(0) == static_cast<int64_t>(lengths.size()),
              "instructions want ids (B, words) and B lengths, got ids ", ids.sizes(), " and ",
              lengths.size(), " lengths");
  const int64_t most = std::min(ids.size(1), options_.longest);
  for (size_t b = 0; b < lengths.size(); ++b) {
    TORCH_CHECK(lengths[b] >= 1 && lengths[b] <= most, "instruction ", b, " has ", lengths[b],
                " words, expected 1 to ", most, " (ids ", ids.sizes(), ", longest ",
                options_.longest, ")");
  }
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const PackedWords packed = pack(lengths, longest, ids.device());
  const at::Tensor valid = ids.slice(1, 0, longest).reshape({-1}).index_select(0, packed.cells);
  at::Tensor rows = words->forward(valid) + position.index_select(0, packed.places);
  rows = norm->forward(block->forward(rows, AttentionMask::from_lengths(lengths, MaskRule::kFull)));
  // Back to a padded (B, longest), zeros for padding, to sum each instruction without atomics.
  const at::Tensor padded = at::cat({rows, at::zeros({1, options_.width}, rows.options())})
                                .index_select(0, packed.rows.flatten())
                                .view({ids.size(0), longest, options_.width});
  const at::Tensor count = packed.counts.to(rows.scalar_type()).unsqueeze(1);
  return as_residual(out->forward(padded.sum(1) / count));
}

}  // namespace espalier
