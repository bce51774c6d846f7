#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"

namespace espalier {

// Keys (rotated) and values of one layer: (batch, tokens so far, kv_heads * head_dim).
struct LayerCache {
  at::Tensor keys;
  at::Tensor values;
};

// Where the next tokens of every sequence go. Sequences are padded on the left, so all of them end
// at the same column; rotary attention depends on distances only, so columns serve as positions.
struct CacheView {
  int64_t batch = 0;
  int64_t first = 0;   // column of the first new token
  int64_t count = 0;   // new tokens per sequence
  AttentionMask mask;  // over batch x (first + count) rows of the cache; the new ones ask
};

// What decoding remembers of the tokens so far: one LayerCache per layer a sequence goes through.
class KeyValueCache {
 public:
  // `padding[b]` columns on the left of sequence b hold no token.
  KeyValueCache(int64_t layers, std::vector<int64_t> padding, int64_t capacity);

  // Advances by `count` tokens and says where they go.
  CacheView extend(int64_t count);
  LayerCache& layer(int64_t index) { return layers_.at(static_cast<size_t>(index)); }
  int64_t capacity() const { return capacity_; }

 private:
  std::vector<LayerCache> layers_;
  std::vector<int64_t> padding_;
  int64_t capacity_;
  int64_t length_ = 0;
};

}  // namespace espalier
