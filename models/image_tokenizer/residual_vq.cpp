#include "models/image_tokenizer/residual_vq.h"

#include <algorithm>
#include <limits>

#include <ATen/Parallel.h>

#include "models/kernels/codes.h"
#include "models/kernels/simd.h"

namespace espalier {
namespace {

constexpr int64_t kRowsPerPiece = 256;  // of work for one thread
// A code chosen so seldom keeps its vector: the smoothing of the counts would pull it to zero.
constexpr double kLeastCount = 1e-3;
// What a restarted code counts as, where restart_below itself is not more.
constexpr double kLeastRestartCount = 1.0;
// Of codes times rows in one piece of add_by_code(): memory that it takes, in elements.
constexpr int64_t kLargestOneHot = int64_t{1} << 24;
// Of code vectors before the first update: next to nothing, but different from each other.
constexpr double kStartDeviation = 0.01;

// Adds rows and their number to the codes they have, by products with one-hot matrices:
// index_add_() on a GPU adds in an order that differs from run to run.
void add_by_code(const at::Tensor& codes, const at::Tensor& rows, at::Tensor counts,
                 at::Tensor sums) {
  const int64_t size = counts.size(0);
  const int64_t piece = std::max<int64_t>(1, kLargestOneHot / size);
  const at::Tensor numbers = at::arange(size, codes.options()).unsqueeze(1);
  for (int64_t first = 0; first < rows.size(0); first += piece) {
    const int64_t count = std::min(piece, rows.size(0) - first);
    const at::Tensor one_hot =
        numbers.eq(codes.narrow(0, first, count).unsqueeze(0)).to(rows.scalar_type());
    counts.add_(one_hot.sum(1));
    sums.addmm_(one_hot, rows.narrow(0, first, count));
  }
}

}  // namespace

ResidualQuantizerImpl::ResidualQuantizerImpl(const ResidualQuantizerOptions& options)
    : options_(options) {
  const std::vector<int64_t> shape{options.stages, options.codebook_size, options.channels};
  codebooks = register_buffer("codebooks", torch::randn(shape) * kStartDeviation);
  counts = register_buffer("counts", torch::zeros({options.stages, options.codebook_size}));
  averages = register_buffer("averages", torch::zeros(shape));
}

Quantized ResidualQuantizerImpl::quantize(const at::Tensor& latents) const {
  const torch::NoGradGuard no_gradient;
  TORCH_CHECK(latents.scalar_type() == at::kFloat && latents.dim() == 2 &&
                  latents.size(1) == options_.channels,
              "the quantizer wants (N, ", options_.channels, ") fp32, not ", latents.sizes(), " ",
              latents.scalar_type());
  Quantized result;
  result.codes = at::empty({latents.size(0), options_.stages}, latents.options().dtype(at::kLong));
  result.sums = at::empty({options_.stages, latents.size(0), options_.channels}, latents.options());
  if (latents.is_cpu()) {
    quantize_on_cpu(latents.contiguous(), result);
  } else {
    quantize_anywhere(latents, result);
  }
  return result;
}

void ResidualQuantizerImpl::quantize_on_cpu(const at::Tensor& latents, Quantized& result) const {
  const int64_t padding =
      simd::round_up(options_.codebook_size, simd::kLanes) - options_.codebook_size;
  const at::Tensor transposed =
      at::constant_pad_nd(codebooks.transpose(1, 2), {0, padding}, 0).contiguous();
  const at::Tensor half_norms = at::constant_pad_nd(
      codebooks.square().sum(2).mul_(0.5), {0, padding}, std::numeric_limits<double>::infinity());
  const at::Tensor plain = codebooks.contiguous();
  const kernels::CodebookView book{options_.stages,
                                   options_.codebook_size,
                                   options_.channels,
                                   transposed.size(2),
                                   plain.const_data_ptr<float>(),
                                   transposed.const_data_ptr<float>(),
                                   half_norms.const_data_ptr<float>()};
  const auto* from = latents.const_data_ptr<float>();
  auto* codes = result.codes.mutable_data_ptr<int64_t>();
  auto* sums = result.sums.mutable_data_ptr<float>();
  at::parallel_for(0, latents.size(0), kRowsPerPiece, [&](int64_t begin, int64_t end) {
    kernels::quantize_rows(book, from, latents.size(0), codes, sums, begin, end);
  });
}

// Ties may go to another code than on the CPU: which of equal maxima argmax returns is the
// device's choice.
void ResidualQuantizerImpl::quantize_anywhere(const at::Tensor& latents, Quantized& result) const {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor half_norms = codebooks.square().sum(2).mul_(0.5);
  at::Tensor residual = latents;
  for (int64_t stage = 0; stage < options_.stages; ++stage) {
    const at::Tensor codes =
        at::addmm(half_norms[stage], residual, codebooks[stage].t(), -1, 1).argmax(1);
    result.codes.select(1, stage).copy_(codes);
    at::Tensor sum = result.sums[stage];
    at::index_select_out(sum, codebooks[stage], 0, codes);
    if (stage > 0) sum.add_(result.sums[stage - 1]);
    residual = at::sub(latents, sum);
  }
}

at::Tensor ResidualQuantizerImpl::new_statistics() const {
  return at::zeros({counts.numel() + 2 * averages.numel()}, counts.options());
}

void ResidualQuantizerImpl::add_statistics(const at::Tensor& latents, const Quantized& quantized,
                                           const at::Tensor& candidate_rows,
                                           at::Tensor& statistics) const {
  const torch::NoGradGuard no_gradient;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const auto [seen_counts, seen_sums, candidates] = parts_of(statistics);
  if (latents.is_cpu()) {
    kernels::add_code_statistics(
        options_.stages, options_.codebook_size, options_.channels, latents.const_data_ptr<float>(),
        quantized.sums.const_data_ptr<float>(), quantized.codes.const_data_ptr<int64_t>(),
        latents.size(0), seen_counts.mutable_data_ptr<float>(),
        seen_sums.mutable_data_ptr<float>());
  } else {
    for (int64_t stage = 0; stage < options_.stages; ++stage) {
      const at::Tensor residual = stage == 0 ? latents : latents - quantized.sums[stage - 1];
      add_by_code(quantized.codes.select(1, stage), residual, seen_counts[stage], seen_sums[stage]);
    }
  }
  // Residual of the offered row before each stage, zeros where another rank supplies it.
  const at::Tensor offered = candidate_rows.ge(0).unsqueeze(2);
  for (int64_t stage = 0; stage < options_.stages; ++stage) {
    const at::Tensor row = candidate_rows[stage].clamp_min(0);
    at::Tensor residual = latents.index_select(0, row);
    if (stage > 0) residual.sub_(quantized.sums[stage - 1].index_select(0, row));
    candidates[stage].add_(residual.mul_(offered[stage]));
  }
}

ResidualQuantizerImpl::Parts ResidualQuantizerImpl::parts_of(const at::Tensor& statistics) const {
  const int64_t codes = counts.numel(), values = averages.numel();
  return {statistics.narrow(0, 0, codes).view_as(counts),
          statistics.narrow(0, codes, values).view_as(averages),
          statistics.narrow(0, codes + values, values).view_as(averages)};
}

at::Tensor ResidualQuantizerImpl::update(const at::Tensor& statistics, const at::Tensor& applies) {
  const torch::NoGradGuard no_gradient;
  const auto [seen_counts, seen_sums, candidates] = parts_of(statistics);
  // The counts of a stage are zero until its codebook comes from data. Its turn is one step after
  // the stage before it: only then its candidates are what that stage leaves.
  at::Tensor runs = counts.sum(1).gt(0);
  const at::Tensor first = at::ones({1}, runs.options());
  at::Tensor starts =
      at::cat({first, runs.narrow(0, 0, options_.stages - 1)}).logical_and(runs.logical_not());
  if (applies.defined()) {
    runs = runs.logical_and(applies);
    starts = starts.logical_and(applies);
  }
  const at::Tensor running = runs.unsqueeze(1);
  counts.copy_(at::where(running, counts.lerp(seen_counts, 1.0 - options_.decay), counts));
  averages.copy_(
      at::where(running.unsqueeze(2), averages.lerp(seen_sums, 1.0 - options_.decay), averages));

  const at::Tensor total = counts.sum(1, /*keepdim=*/true);
  const double size = static_cast<double>(options_.codebook_size);
  const at::Tensor smoothed =
      counts.add(options_.epsilon).div_(total.add(size * options_.epsilon)).mul_(total);
  const at::Tensor moves = running.logical_and(counts.ge(kLeastCount)).unsqueeze(2);
  codebooks.copy_(at::where(moves, averages / smoothed.unsqueeze(2), codebooks));

  const at::Tensor dead = running.logical_and(counts.lt(options_.dead_below));
  const at::Tensor replaced = dead.logical_or(starts.unsqueeze(1));
  const double count = std::max(options_.dead_below, kLeastRestartCount);
  counts.masked_fill_(replaced, count);
  averages.copy_(at::where(replaced.unsqueeze(2), candidates * count, averages));
  codebooks.copy_(at::where(replaced.unsqueeze(2), candidates, codebooks));
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
