#include "models/attention/key_value_cache.h"

#include <torch/torch.h>

namespace espalier {

KeyValueCache::KeyValueCache(int64_t layers, const std::vector<int64_t>& padding, int64_t capacity,
                             at::Device device)
    : layers_(static_cast<size_t>(layers)),
      padding_(at::tensor(padding, at::kLong).to(device)),
      capacity_(capacity) {}

CacheView KeyValueCache::extend(int64_t count) {
  TORCH_CHECK(length_ + count <= capacity_, "the key-value cache holds ", capacity_,
              " tokens per sequence, ", length_ + count, " are needed");
  const at::Tensor columns = at::arange(length_ + count, padding_.options());
  const at::Tensor queries = columns.narrow(0, length_, count);
  // A query on padding sees itself, so that its softmax has something to sum; nobody reads it.
  const at::Tensor is_self = queries.view({-1, 1}) == columns.view({1, -1});
  const at::Tensor is_past = queries.view({-1, 1}) >= columns.view({1, -1});
  const at::Tensor is_token = padding_.view({-1, 1, 1}) <= columns.view({1, 1, -1});
  CacheView view{padding_.size(0), length_, count,
                 (is_past.logical_and(is_token)).logical_or(is_self).unsqueeze(1)};
  length_ += count;
  return view;
}

}  // namespace espalier
