#include "models/kernels/codes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "models/kernels/simd.h"

namespace espalier::kernels {
namespace {

using simd::Floats;
using simd::Ints;
using simd::kLanes;

constexpr int64_t kRows = 4;     // rows and vectors of codes whose scores are in registers at once
constexpr int64_t kVectors = 4;  // 4 x 4 sums, 4 code vectors and a broadcast: 21 of 32 registers

struct Best {
  Floats score[kRows];
  Ints code[kRows];
};

// Scores of kRows residuals against `vectors` * 16 codes from `code` on.
template <int64_t vectors>
ESPALIER_INLINE void score_tile(const float* residuals, int64_t channels, const float* transposed,
                                const float* half_norms, int64_t padded_size, int64_t code,
                                Best& best) {
  Floats sums[kRows][vectors];
  for (int64_t v = 0; v < vectors; ++v) {
    const Floats start = -simd::load(half_norms + code + v * kLanes);
    for (int64_t r = 0; r < kRows; ++r) sums[r][v] = start;
  }
  for (int64_t c = 0; c < channels; ++c) {
    Floats codes[vectors];
    for (int64_t v = 0; v < vectors; ++v) {
      codes[v] = simd::load(transposed + c * padded_size + code + v * kLanes);
    }
    for (int64_t r = 0; r < kRows; ++r) {
      const Floats x = simd::broadcast(residuals[r * channels + c]);
      for (int64_t v = 0; v < vectors; ++v) sums[r][v] += x * codes[v];
    }
  }
  Ints number;
  for (int64_t lane = 0; lane < kLanes; ++lane) number[lane] = static_cast<int32_t>(code + lane);
  for (int64_t v = 0; v < vectors; ++v) {
    for (int64_t r = 0; r < kRows; ++r) {
      const Ints better = sums[r][v] > best.score[r];
      best.score[r] = better ? sums[r][v] : best.score[r];
      best.code[r] = better ? number : best.code[r];
    }
    number += static_cast<int32_t>(kLanes);
  }
}

ESPALIER_INLINE int64_t best_code(const Floats& score, const Ints& code) {
  float top = score[0];
  int32_t result = code[0];
  for (int64_t lane = 1; lane < kLanes; ++lane) {
    const bool better = score[lane] > top || (score[lane] == top && code[lane] < result);
    top = better ? score[lane] : top;
    result = better ? code[lane] : result;
  }
  return result;
}

}  // namespace

ESPALIER_CLONES
void quantize_rows(const CodebookView& book, const float* latents, int64_t rows, int64_t* codes,
                   float* sums, int64_t begin, int64_t end) {
  const int64_t channels = book.channels;
  std::vector<float> scratch(static_cast<size_t>(2 * kRows * channels));
  float* residuals = scratch.data();
  float* totals = residuals + kRows * channels;
  for (int64_t row = begin; row < end; row += kRows) {
    const int64_t count = std::min(kRows, end - row);
    // Rows behind the last one repeat it; nothing of theirs is stored.
    for (int64_t r = 0; r < kRows; ++r) {
      const float* from = latents + (row + std::min(r, count - 1)) * channels;
      std::copy(from, from + channels, residuals + r * channels);
    }
    std::fill(totals, totals + kRows * channels, 0.0f);
    for (int64_t stage = 0; stage < book.stages; ++stage) {
      const float* transposed = book.transposed + stage * channels * book.padded_size;
      const float* half_norms = book.half_norms + stage * book.padded_size;
      Best best;
      for (int64_t r = 0; r < kRows; ++r) {
        best.score[r] = simd::broadcast(-std::numeric_limits<float>::infinity());
        best.code[r] = Ints{};
      }
      int64_t code = 0;
      for (; code + kVectors * kLanes <= book.padded_size; code += kVectors * kLanes) {
        score_tile<kVectors>(residuals, channels, transposed, half_norms, book.padded_size, code,
                             best);
      }
      for (; code < book.padded_size; code += kLanes) {
        score_tile<1>(residuals, channels, transposed, half_norms, book.padded_size, code, best);
      }
      for (int64_t r = 0; r < count; ++r) {
        const int64_t chosen = best_code(best.score[r], best.code[r]);
        codes[(row + r) * book.stages + stage] = chosen;
        const float* vector = book.codebooks + (stage * book.size + chosen) * channels;
        const float* latent = latents + (row + r) * channels;
        float* total = totals + r * channels;
        float* out = sums + (stage * rows + row + r) * channels;
        for (int64_t c = 0; c < channels; ++c) {
          total[c] += vector[c];
          out[c] = total[c];
          residuals[r * channels + c] = latent[c] - total[c];
        }
      }
    }
  }
}

ESPALIER_CLONES
void add_code_statistics(int64_t stages, int64_t size, int64_t channels, const float* latents,
                         const float* sums, const int64_t* codes, int64_t rows, float* counts,
                         float* totals) {
  for (int64_t stage = 0; stage < stages; ++stage) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = stage * size + codes[row * stages + stage];
      counts[at] += 1.0f;
      const float* latent = latents + row * channels;
      const float* before = stage == 0 ? nullptr : sums + ((stage - 1) * rows + row) * channels;
      float* total = totals + at * channels;
      int64_t c = 0;
      for (; c + kLanes <= channels; c += kLanes) {
        Floats x = simd::load(latent + c);
        if (before != nullptr) x -= simd::load(before + c);
        simd::store(total + c, simd::load(total + c) + x);
      }
      for (; c < channels; ++c) total[c] += latent[c] - (before == nullptr ? 0.0f : before[c]);
    }
  }
}

}  // namespace espalier::kernels
