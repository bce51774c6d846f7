#pragma once

#include <string>

#include "models/attention/attention_mask.h"

namespace espalier {

// A line for each query, '#' where it sees a row.
inline std::string drawn(const AttentionMask& mask) {
  const at::Tensor dense = mask.dense();
  std::string text;
  for (int64_t i = 0; i < dense.size(0); ++i) {
    for (int64_t j = 0; j < dense.size(1); ++j) text += dense[i][j].item<bool>() ? '#' : '.';
    text += '\n';
  }
  return text;
}

}  // namespace espalier
