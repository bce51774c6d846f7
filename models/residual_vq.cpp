#include "models/residual_vq.h"

#include <algorithm>

namespace espalier {
namespace {

// Rows whose scores stay in the cache while their best code is looked up.
constexpr int64_t kSearchRows = 512;

// argmin |r - e|^2 = argmax (r . e - |e|^2 / 2), in fp32 whatever the precision of the step.
// Ties go to the lower code: argmax returns the first of equal scores.
at::Tensor nearest_codes(const at::Tensor& residual, const at::Tensor& codebook_t,
                         const at::Tensor& half_norms) {
  const int64_t rows = residual.size(0);
  at::Tensor codes = at::empty({rows}, residual.options().dtype(at::kLong));
  at::Tensor scores =
      at::empty({std::min(rows, kSearchRows), half_norms.size(0)}, residual.options());
  for (int64_t begin = 0; begin < rows; begin += kSearchRows) {
    const int64_t count = std::min(kSearchRows, rows - begin);
    at::Tensor chunk = scores.narrow(0, 0, count);
    at::addmm_out(chunk, half_norms, residual.narrow(0, begin, count), codebook_t, 1, -1);
    at::Tensor out = codes.narrow(0, begin, count);
    at::argmax_out(out, chunk, 1);
  }
  return codes;
}

}  // namespace

ResidualQuantizerImpl::ResidualQuantizerImpl(const ResidualQuantizerOptions& options)
    : options_(options) {
  const std::vector<int64_t> shape{options.stages, options.codebook_size, options.channels};
  // Until the first update every code is dead, so these are only what an untrained model has.
  codebooks = register_buffer("codebooks", torch::randn(shape));
  counts = register_buffer("counts", torch::zeros({options.stages, options.codebook_size}));
  averages = register_buffer("averages", torch::zeros(shape));
}

Quantized ResidualQuantizerImpl::quantize(const at::Tensor& latents) const {
  const torch::NoGradGuard no_gradient;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const int64_t rows = latents.size(0);
  Quantized result;
  result.codes = at::empty({rows, options_.stages}, latents.options().dtype(at::kLong));
  result.sums = at::empty({options_.stages, rows, options_.channels}, latents.options());
  const at::Tensor half_norms = codebooks.square().sum(2).mul_(0.5);
  at::Tensor residual = latents;
  for (int64_t stage = 0; stage < options_.stages; ++stage) {
    const at::Tensor& codebook = codebooks[stage];
    const at::Tensor codes = nearest_codes(residual, codebook.t(), half_norms[stage]);
    result.codes.select(1, stage).copy_(codes);
    at::Tensor sum = result.sums[stage];
    at::index_select_out(sum, codebook, 0, codes);
    if (stage > 0) sum.add_(result.sums[stage - 1]);
    residual = at::sub(latents, sum);
  }
  return result;
}

at::Tensor ResidualQuantizerImpl::new_statistics() const {
  return at::zeros({counts.numel() + 2 * averages.numel()}, counts.options());
}

void ResidualQuantizerImpl::add_statistics(const at::Tensor& latents, const Quantized& quantized,
                                           const at::Tensor& candidate_rows,
                                           at::Tensor& statistics) const {
  const torch::NoGradGuard no_gradient;
  const int64_t size = options_.codebook_size;
  for (int64_t stage = 0; stage < options_.stages; ++stage) {
    at::Tensor count = statistics.narrow(0, stage * size, size);
    at::Tensor sum =
        statistics
            .narrow(0, counts.numel() + stage * size * options_.channels, size * options_.channels)
            .view({size, options_.channels});
    at::Tensor candidates =
        statistics
            .narrow(0, counts.numel() + averages.numel() + stage * size * options_.channels,
                    size * options_.channels)
            .view({size, options_.channels});
    const at::Tensor codes = quantized.codes.select(1, stage).contiguous();
    const at::Tensor residual = stage == 0 ? latents : latents - quantized.sums[stage - 1];
    count.add_(at::bincount(codes, {}, size));
    sum.index_add_(0, codes, residual);
    const at::Tensor rows = candidate_rows[stage];
    const at::Tensor offered = rows.ge(0).nonzero().squeeze(1);
    candidates.index_add_(0, offered, residual.index_select(0, rows.index_select(0, offered)));
  }
}

at::Tensor ResidualQuantizerImpl::update(const at::Tensor& statistics) {
  const torch::NoGradGuard no_gradient;
  const at::Tensor seen_counts = statistics.narrow(0, 0, counts.numel()).view_as(counts);
  const at::Tensor seen_sums =
      statistics.narrow(0, counts.numel(), averages.numel()).view_as(averages);
  const at::Tensor candidates =
      statistics.narrow(0, counts.numel() + averages.numel(), averages.numel()).view_as(averages);
  counts.lerp_(seen_counts, 1.0 - options_.decay);
  averages.lerp_(seen_sums, 1.0 - options_.decay);

  const at::Tensor dead = counts.lt(options_.dead_below);
  averages.copy_(at::where(dead.unsqueeze(2), candidates, averages));
  counts.masked_fill_(dead, 1.0);

  const at::Tensor total = counts.sum(1, /*keepdim=*/true);
  const double size = static_cast<double>(options_.codebook_size);
  const at::Tensor smoothed =
      counts.add(options_.epsilon).div_(total.add(size * options_.epsilon)).mul_(total);
  codebooks.copy_(averages / smoothed.unsqueeze(2));
  return dead.sum(1);
}

at::Tensor ResidualQuantizerImpl::embed(const at::Tensor& codes, int64_t stages) const {
  TORCH_CHECK(stages >= 1 && stages <= options_.stages && codes.size(-1) >= stages, "cannot embed ",
              stages, " stages of codes ", codes.sizes());
  at::Tensor sum;
  for (int64_t stage = 0; stage < stages; ++stage) {
    const at::Tensor vectors = at::embedding(codebooks[stage], codes.select(-1, stage));
    sum = stage == 0 ? vectors : sum + vectors;
  }
  return sum;
}

}  // namespace espalier
