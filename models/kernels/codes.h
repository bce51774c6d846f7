#pragma once

#include <cstdint>

// Residual quantization on CPU. Plain pointers, no torch; callers split rows over threads.
namespace espalier::kernels {

struct CodebookView {
  int64_t stages, size, channels;
  int64_t padded_size;      // a multiple of 16
  const float* codebooks;   // (stages, size, channels)
  const float* transposed;  // (stages, channels, padded_size), zeros behind size
  const float* half_norms;  // (stages, padded_size): |e|^2 / 2, infinite behind size
};

// For each row and stage the code with the largest (residual . e - |e|^2 / 2), the lowest of equal
// ones; its vector joins the sum and leaves the residual, while both are in registers or cache.
// codes (rows, stages); sums (stages, rows, channels). Scores are never written to memory.
void quantize_rows(const CodebookView& book, const float* latents, int64_t rows, int64_t* codes,
                   float* sums, int64_t begin, int64_t end);

// counts (stages, size) and totals (stages, size, channels) of the residuals by code, added to.
void add_code_statistics(int64_t stages, int64_t size, int64_t channels, const float* latents,
                         const float* sums, const int64_t* codes, int64_t rows, float* counts,
                         float* totals);

}  // namespace espalier::kernels
