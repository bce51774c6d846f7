#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include <torch/torch.h>

#include "models/decoder/y_model.h"

// A small model and packed sequences for it.
namespace espalier {

// Indices of the branches of small_options().
inline constexpr int64_t kUnderstanding = 0;
inline constexpr int64_t kGeneration = 1;

inline YModelOptions small_options() {
  return {
      .width = 32,
      .heads = 2,
      .kv_heads = 1,
      .feed_forward_width = 48,
      .trunk_layers = 2,
      .branches = {{"understanding", 1, BranchHead::kText}, {"generation", 2, BranchHead::kCodes}},
      .longest_sequence = 24,
      .vocabulary_size = 40,
      .image_positions = 5,
      .code_channels = 8,
      .semantic_channels = 6,
      .stages = 3,
      .codebook_size = 11,
      .depth_width = 32,
      .depth_heads = 2,
      .depth_layers = 2,
      .depth_feed_forward_width = 40};
}

// Builds packed sequences by hand: text first, then image positions, in the order of the calls.
struct Packed {
  std::vector<int64_t> text, positions, sources, lengths;
  std::vector<bool> is_image;

  void mark(int64_t which) { push(which, false); }
  void add_text(std::vector<int64_t> ids) {
    for (const int64_t id : ids) {
      text.push_back(id);
      push(-1, false);
    }
  }
  void add_image(int64_t count) {
    for (int64_t p = 0; p < count; ++p) {
      positions.push_back(p);
      push(-1, true);
    }
  }
  void end() {
    const int64_t before = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    lengths.push_back(static_cast<int64_t>(sources.size()) - before);
  }
  TokenRows rows() const {
    int64_t next_text = kFirstText;
    int64_t next_image = kFirstText + static_cast<int64_t>(text.size());
    std::vector<int64_t> numbered = sources;
    for (size_t i = 0; i < sources.size(); ++i) {
      if (sources[i] < 0) numbered[i] = is_image[i] ? next_image++ : next_text++;
    }
    TokenRows rows;
    rows.text_ids = torch::tensor(text, torch::kLong);
    rows.positions = torch::tensor(positions, torch::kLong);
    rows.sources = torch::tensor(numbered, torch::kLong);
    rows.mask = AttentionMask::from_lengths(lengths);
    return rows;
  }

 private:
  void push(int64_t source, bool image) {
    sources.push_back(source);
    is_image.push_back(image);
  }
};

}  // namespace espalier
