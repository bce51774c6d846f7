#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

// Fixed positions of a grid as the masked autoencoder makes them (facebookresearch/mae,
// util/pos_embed.py): (rows * columns, width) fp32, row by row. The first half of the width encodes
// the column, the second the row, each as [sin, cos] at width / 4 frequencies 10000^(-4 i / width).
// Throws c10::Error when 4 does not divide the width.
at::Tensor sincos_positions(int64_t rows, int64_t columns, int64_t width);

// The same for `count` tokens: a square where count is one, else a single row.
at::Tensor sincos_positions(int64_t count, int64_t width);

}  // namespace espalier
