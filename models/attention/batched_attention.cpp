#include "models/attention/batched_attention.h"

#include <torch/torch.h>

#include "models/attention/attention_plan.h"
#include "models/attention/fused_attention.h"
#include "models/attention/saved_mask.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const SequenceBatch& batch_of(const AttentionMask& mask, at::Device device) {
  const AttentionPlan& plan = mask.plan(device);
  TORCH_CHECK(plan.batch, "batched_attention: the mask ", mask, " is no batch of sequences");
  return *plan.batch;
}

// (samples * rows, H * d) -> (samples * count, H, length, d)
at::Tensor heads_first(const SequenceBatch& batch, const at::Tensor& rows, int64_t samples,
                       int64_t head_dim) {
  const at::Tensor cells = to_cells(batch, rows, samples);
  return cells.unflatten(2, {cells.size(2) / head_dim, head_dim}).transpose(1, 2);
}

at::Tensor rows_first(const SequenceBatch& batch, const at::Tensor& heads, int64_t samples) {
  return from_cells(batch, heads.transpose(1, 2).flatten(2), samples);
}

// Each key-value head once for every query head that it serves.
at::Tensor shared(const at::Tensor& kv, int64_t times) {
  return times == 1 ? kv : kv.repeat_interleave(times, 1);
}

at::Tensor unshared(const at::Tensor& grad, int64_t times) {
  return times == 1 ? grad : grad.unflatten(1, {grad.size(1) / times, times}).sum(2);
}

struct BatchedFunction : torch::autograd::Function<BatchedFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q_rows,
                            const at::Tensor& k_rows, const at::Tensor& v_rows,
                            const AttentionMask& mask, int64_t head_dim) {
    const SequenceBatch& batch = batch_of(mask, q_rows.device());
    const int64_t samples = mask.samples(), times = q_rows.size(1) / k_rows.size(1);
    const at::Tensor q = heads_first(batch, q_rows, samples, head_dim);
    const at::Tensor k = heads_first(batch, k_rows, samples, head_dim);
    const at::Tensor v = heads_first(batch, v_rows, samples, head_dim);
    const FusedKernel kernel = fused_kernel_for(q.device(), q.scalar_type(), head_dim);
    const FusedForward result =
        fused_attention(kernel, q, shared(k, times), shared(v, times), batch.is_causal);
    ctx->save_for_backward({q, k, v, result.out, result.log_sum_exp, result.seed, result.offset});
    ctx->saved_data["mask"] = save(mask);
    return rows_first(batch, result.out, samples);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const AttentionMask& mask = restore(ctx->saved_data["mask"]);
    const at::Tensor& q = saved[0];
    const SequenceBatch& batch = batch_of(mask, q.device());
    const int64_t samples = mask.samples(), times = q.size(1) / saved[1].size(1);
    const FusedKernel kernel = fused_kernel_for(q.device(), q.scalar_type(), q.size(3));
    const FusedGradients result = fused_attention_backward(
        kernel, heads_first(batch, grads[0], samples, q.size(3)), q, shared(saved[1], times),
        shared(saved[2], times), {saved[3], saved[4], saved[5], saved[6]}, batch.is_causal);
    return {rows_first(batch, result.q, samples),
            rows_first(batch, unshared(result.k, times), samples),
            rows_first(batch, unshared(result.v, times), samples),
            {},
            {}};
  }
};

}  // namespace

at::Tensor batched_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const AttentionMask& mask, const AttentionHeads& heads) {
  return BatchedFunction::apply(q, k, v, mask, heads.head_dim);
}

}  // namespace espalier
