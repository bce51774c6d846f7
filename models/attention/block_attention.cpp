#include "models/attention/block_attention.h"

#include <torch/torch.h>

#include "models/attention/attention_plan.h"
#include "models/attention/batched_attention.h"
#include "models/attention/fused_attention.h"
#include "models/attention/saved_mask.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// (B * T, H * d) -> (B, H, T, d), tokens in the plan's order. Copies only to change the order.
at::Tensor heads_first(const at::Tensor& rows, int64_t samples, int64_t head_dim,
                       const at::Tensor& order) {
  at::Tensor all = rows.view({samples, rows.size(0) / samples, rows.size(1) / head_dim, head_dim});
  if (order.defined()) all = all.index_select(1, order);
  return all.transpose(1, 2);
}

// The inverse; `place` is where the plan has put each token.
at::Tensor rows_first(const at::Tensor& heads, const at::Tensor& place) {
  at::Tensor all = heads.transpose(1, 2);
  if (place.defined()) all = all.index_select(1, place);
  return all.reshape({all.size(0) * all.size(1), all.size(2) * all.size(3)});
}

// Each key-value head once for every query head that it serves.
at::Tensor shared(const at::Tensor& kv, int64_t times) {
  return times == 1 ? kv : kv.repeat_interleave(times, 1);
}

at::Tensor unshared(const at::Tensor& grad, int64_t times) {
  if (times == 1) return grad;
  return grad.reshape({grad.size(0), grad.size(1) / times, times, grad.size(2), grad.size(3)})
      .sum(2);
}

at::Tensor keys_of(const at::Tensor& all, const AttentionPiece& piece) {
  if (!piece.key_places.defined()) return all.narrow(2, piece.key_first, piece.key_count);
  return all.index_select(2, piece.key_places);
}

void add_to_keys(const at::Tensor& all, const AttentionPiece& piece, const at::Tensor& grad) {
  if (!piece.key_places.defined()) {
    all.narrow(2, piece.key_first, piece.key_count).add_(grad);
  } else {
    all.index_add_(2, piece.key_places, grad);
  }
}

// Adds the piece's softmax to one over other keys: both weighted by their share of the joint sum.
void merge(const at::Tensor& out, const at::Tensor& log_sum, const FusedForward& piece) {
  const at::Tensor joint = at::logaddexp(log_sum, piece.log_sum_exp);
  const at::Tensor old_share = at::exp(log_sum - joint).unsqueeze(3);
  const at::Tensor new_share = at::exp(piece.log_sum_exp - joint).unsqueeze(3);
  out.copy_(out * old_share + piece.out * new_share);
  log_sum.copy_(joint);
}

// (B, H, T, d) like `q`, with tokens before heads in memory: rows_first() is then a view.
at::Tensor empty_like_rows(const at::Tensor& q) {
  return at::empty({q.size(0), q.size(2), q.size(1), q.size(3)}, q.options()).transpose(1, 2);
}

struct PiecesFunction : torch::autograd::Function<PiecesFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q_rows,
                            const at::Tensor& k_rows, const at::Tensor& v_rows,
                            const AttentionMask& mask, int64_t head_dim) {
    const AttentionPlan& plan = mask.plan(q_rows.device());
    const FusedKernel kernel = fused_kernel_for(q_rows.device(), q_rows.scalar_type(), head_dim);
    const at::Tensor q = heads_first(q_rows, mask.samples(), head_dim, plan.query_order);
    const int64_t times = q_rows.size(1) / k_rows.size(1);
    const at::Tensor k_own = heads_first(k_rows, mask.samples(), head_dim, plan.key_order);
    const at::Tensor v_own = heads_first(v_rows, mask.samples(), head_dim, plan.key_order);
    const at::Tensor k = shared(k_own, times);
    const at::Tensor v = shared(v_own, times);
    const at::Tensor out = empty_like_rows(q);
    const at::Tensor log_sum =
        at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat));
    at::Tensor seed;
    at::Tensor offset;
    for (const AttentionPiece& piece : plan.pieces) {
      const FusedForward part =
          fused_attention(kernel, q.narrow(2, piece.query_first, piece.query_count),
                          keys_of(k, piece), keys_of(v, piece), piece.is_causal);
      const at::Tensor to = out.narrow(2, piece.query_first, piece.query_count);
      const at::Tensor sum = log_sum.narrow(2, piece.query_first, piece.query_count);
      if (piece.is_first) {
        to.copy_(part.out);
        sum.copy_(part.log_sum_exp);
      } else {
        merge(to, sum, part);
      }
      seed = part.seed;  // of dropout, which there is none of: any piece's will do
      offset = part.offset;
    }
    ctx->save_for_backward({q, k_own, v_own, out, log_sum, seed, offset});
    ctx->saved_data["mask"] = save(mask);
    ctx->saved_data["times"] = times;
    return rows_first(out, plan.query_place);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const AttentionMask& mask = restore(ctx->saved_data["mask"]);
    const int64_t times = ctx->saved_data["times"].toInt();
    const at::Tensor& q = saved[0];
    const AttentionPlan& plan = mask.plan(q.device());
    const int64_t head_dim = q.size(3);
    const FusedKernel kernel = fused_kernel_for(q.device(), q.scalar_type(), head_dim);
    const at::Tensor k = shared(saved[1], times);
    const at::Tensor v = shared(saved[2], times);
    const at::Tensor grad_out =
        heads_first(grads[0].contiguous(), mask.samples(), head_dim, plan.query_order);
    const at::Tensor grad_q = empty_like_rows(q);
    const at::Tensor grad_k = empty_like_rows(k).zero_();
    const at::Tensor grad_v = empty_like_rows(v).zero_();
    for (const AttentionPiece& piece : plan.pieces) {
      const auto mine = [&](const at::Tensor& all) {
        return all.narrow(2, piece.query_first, piece.query_count);
      };
      const FusedGradients part = fused_attention_backward(
          kernel, mine(grad_out), mine(q), keys_of(k, piece), keys_of(v, piece),
          {mine(saved[3]), mine(saved[4]), saved[5], saved[6]}, piece.is_causal);
      if (piece.is_first) {
        mine(grad_q).copy_(part.q);
      } else {
        mine(grad_q).add_(part.q);
      }
      add_to_keys(grad_k, piece, part.k);
      add_to_keys(grad_v, piece, part.v);
    }
    return {rows_first(grad_q, plan.query_place),
            rows_first(unshared(grad_k, times), plan.key_place),
            rows_first(unshared(grad_v, times), plan.key_place),
            {},
            {}};
  }
};

// The project's own kernel.
struct KernelFunction : torch::autograd::Function<KernelFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const AttentionMask& mask,
                            const AttentionHeads& heads) {
    const KernelResult result = kernel_attention({q, k, v}, mask, heads, {});
    ctx->save_for_backward({q, k, v, result.out, result.log_sum});
    save(ctx, mask, heads);
    return result.out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const AttentionRows to{at::empty(saved[0].sizes(), saved[0].options()),
                           at::zeros(saved[1].sizes(), saved[1].options()),
                           at::zeros(saved[2].sizes(), saved[2].options())};
    kernel_attention_backward({saved[0], saved[1], saved[2]}, restore(ctx->saved_data["mask"]),
                              restore_heads(ctx), {}, {saved[3], saved[4]}, grads[0].contiguous(),
                              to);
    return {to.q, to.k, to.v, {}, {}};
  }
};

at::Tensor dense_rows(const at::Tensor& rows) {
  return rows.stride(1) == 1 ? rows : rows.contiguous();
}

void check_shapes(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttentionMask& mask, const AttentionHeads& heads) {
  const int64_t width = heads.heads * heads.head_dim;
  const int64_t kv_width = heads.kv_heads * heads.head_dim;
  TORCH_CHECK(q.dim() == 2 && q.size(0) == mask.queries() && q.size(1) == width,
              "block_attention wants queries (", mask.queries(), ", ", width, "), got ", q.sizes());
  for (const at::Tensor* kv : {&k, &v}) {
    TORCH_CHECK(kv->dim() == 2 && kv->size(0) == mask.rows() && kv->size(1) == kv_width,
                "block_attention wants keys and values (", mask.rows(), ", ", kv_width, "), got ",
                kv->sizes());
  }
}

}  // namespace

at::Tensor block_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionMask& mask, const AttentionHeads& heads) {
  check_shapes(q, k, v, mask, heads);
  if (has_attention_kernel(q, heads)) {
    return KernelFunction::apply(dense_rows(q), dense_rows(k), dense_rows(v), mask, heads);
  }
  if (fused_kernel_for(q.device(), q.scalar_type(), heads.head_dim) == FusedKernel::kNone) {
    if (q.is_cuda()) {  // in the first step, and once: whoever pays for a GPU wants to know
      TORCH_WARN_ONCE(attention_path(q.device(), q.scalar_type(), heads.head_dim));
    }
    return composed_block_attention(q, k, v, mask, heads);
  }
  // On the CPU a call costs next to nothing, and padding costs what it holds.
  if (!q.is_cpu() && mask.plan(q.device()).batch) return batched_attention(q, k, v, mask, heads);
  return pieces_attention(q, k, v, mask, heads);
}

at::Tensor pieces_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionMask& mask, const AttentionHeads& heads) {
  check_shapes(q, k, v, mask, heads);
  return PiecesFunction::apply(q.contiguous(), k.contiguous(), v.contiguous(), mask,
                               heads.head_dim);
}

at::Tensor composed_block_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const AttentionMask& mask, const AttentionHeads& heads) {
  check_shapes(q, k, v, mask, heads);
  const int64_t times = heads.heads / heads.kv_heads;
  const auto split = [&](const at::Tensor& rows) {
    return heads_first(rows, mask.samples(), heads.head_dim, {});
  };
  const at::Tensor visible = mask.dense(q.device());
  const at::Tensor scores = at::matmul(split(q), shared(split(k), times).transpose(2, 3)) /
                            std::sqrt(static_cast<double>(heads.head_dim));
  const at::Tensor weights =
      scores.masked_fill(visible.logical_not(), -std::numeric_limits<double>::infinity())
          .softmax(3);
  return rows_first(at::matmul(weights, shared(split(v), times)), {});
}

}  // namespace espalier
