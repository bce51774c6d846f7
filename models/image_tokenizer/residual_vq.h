#pragma once

#include <cstdint>

#include <torch/torch.h>

namespace espalier {

// Residual vector quantization with one codebook per stage, moved by exponential averages (EMA)
// instead of gradients. The residual chain carries no gradient; callers add a straight-through
// term.
struct ResidualQuantizerOptions {
  int64_t stages = 6;
  int64_t codebook_size = 256;
  int64_t channels = 32;
  double decay = 0.98;      // of counts and sums, per step
  double dead_below = 1.0;  // a code whose averaged count falls below is restarted; 0 = never
  double epsilon = 1e-5;    // Laplace smoothing of the counts
};

struct Quantized {
  at::Tensor codes;  // (N, stages) int64
  at::Tensor sums;   // (stages, N, channels) fp32: sum of the code vectors of stages 0..s
};

class ResidualQuantizerImpl : public torch::nn::Module {
 public:
  explicit ResidualQuantizerImpl(const ResidualQuantizerOptions& options);

  // `latents` (N, channels) fp32, detached. Ties go to the lower code.
  Quantized quantize(const at::Tensor& latents) const;

  // What a step needs to know about the vectors it saw, in one flat fp32 buffer that ranks add up:
  // counts (stages, K), sums (stages, K, channels), and the restart candidates (stages, K,
  // channels): row `rows[s][k]` of the residuals of stage s, or zeros where `rows[s][k]` < 0, so
  // that exactly one rank supplies each candidate and all ranks then hold the same ones.
  at::Tensor new_statistics() const;
  void add_statistics(const at::Tensor& latents, const Quantized& quantized,
                      const at::Tensor& candidate_rows, at::Tensor& statistics) const;

  // Once per step. EMA of counts and sums, new code vectors, then dead codes become their
  // candidates, with a count of dead_below (at least 1), so that they have time to be chosen.
  // Stage s starts at the s-th update from s = 0 on, when all its codes become their candidates;
  // until then its vectors are next to nothing. Returns the number of codes restarted per stage,
  // (stages) int64, starts not counted. `applies` (a bool where the codebooks are; undefined =
  // true): false leaves everything as it is, whatever the statistics are, without the host knowing.
  at::Tensor update(const at::Tensor& statistics, const at::Tensor& applies = {});

  // Sum of the code vectors of the first `stages`: codes (..., >= stages) -> (..., channels).
  at::Tensor embed(const at::Tensor& codes, int64_t stages) const;

  const ResidualQuantizerOptions& options() const { return options_; }
  at::Tensor codebooks;  // (stages, K, channels)
  at::Tensor counts;     // (stages, K): averaged number of vectors per step
  at::Tensor averages;   // (stages, K, channels): averaged vector sums

 private:
  struct Parts {  // views of a statistics buffer
    at::Tensor counts, sums, candidates;
  };
  Parts parts_of(const at::Tensor& statistics) const;
  void quantize_on_cpu(const at::Tensor& latents, Quantized& result) const;
  void quantize_anywhere(const at::Tensor& latents, Quantized& result) const;

  ResidualQuantizerOptions options_;
};
TORCH_MODULE(ResidualQuantizer);

}  // namespace espalier
