#include "models/attention/packed_attention.h"

#include <torch/torch.h>

#include "models/attention/attention_plan.h"
#include "models/attention/saved_mask.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Views of the heads of a packed row.
AttentionRows views_of(const at::Tensor& qkv, const AttentionHeads& heads) {
  const int64_t width = heads.heads * heads.head_dim;
  const int64_t kv_width = heads.kv_heads * heads.head_dim;
  return {qkv.narrow(1, 0, width), qkv.narrow(1, width, kv_width),
          qkv.narrow(1, width + kv_width, kv_width)};
}

// The project's own kernel on packed rows: it rotates as it reads, and writes one gradient.
struct PackedAttentionFunction : torch::autograd::Function<PackedAttentionFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv, const AttentionMask& mask,
                            const AttentionHeads& heads, const RotaryTable& table) {
    const at::Tensor in = qkv.contiguous();
    const KernelResult result = kernel_attention(views_of(in, heads), mask, heads, table);
    ctx->save_for_backward({in, result.out, result.log_sum, table.cosines, table.sines});
    save(ctx, mask, heads);
    return result.out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const AttentionHeads heads = restore_heads(ctx);
    const at::Tensor grad = at::empty_like(saved[0]);
    kernel_attention_backward(views_of(saved[0], heads), restore(ctx->saved_data["mask"]), heads,
                              {saved[3], saved[4]}, {saved[1], saved[2]}, grads[0].contiguous(),
                              views_of(grad, heads));
    return {grad, {}, {}, {}};
  }
};

// Rotated, as block attention takes them.
AttentionRows split_rows(const at::Tensor& qkv, const AttentionMask& mask,
                         const AttentionHeads& heads, const RotaryTable& table) {
  const int64_t width = heads.heads * heads.head_dim;
  const int64_t kv_width = heads.kv_heads * heads.head_dim;
  const AttentionPlan& plan = mask.plan(qkv.device());
  at::Tensor qk = qkv.narrow(1, 0, width + kv_width);
  if (table.cosines.defined()) {
    const RotaryTable rows{table.cosines.index_select(0, plan.positions).unsqueeze(1),
                           table.sines.index_select(0, plan.positions).unsqueeze(1)};
    const at::Tensor split =
        qk.view({mask.samples(), mask.sample_rows(), heads.heads + heads.kv_heads, heads.head_dim});
    qk = rotate(split, rows).view({qkv.size(0), width + kv_width});
  }
  at::Tensor q = qk.narrow(1, 0, width);
  if (plan.query_rows.defined()) {
    q = q.view({mask.samples(), mask.sample_rows(), width})
            .index_select(1, plan.query_rows)
            .view({mask.queries(), width});
  }
  return {q, qk.narrow(1, width, kv_width), qkv.narrow(1, width + kv_width, kv_width)};
}

void check_rows(const at::Tensor& qkv, const AttentionMask& mask, const AttentionHeads& heads,
                const RotaryTable& table) {
  TORCH_CHECK(qkv.dim() == 2 && qkv.size(0) == mask.rows() && qkv.size(1) == heads.row_width(),
              "packed_attention wants (", mask.rows(), ", ", heads.row_width(), "), got ",
              qkv.sizes());
  TORCH_CHECK(!table.cosines.defined() || table.cosines.size(0) >= mask.positions(),
              "packed_attention: position ", mask.positions() - 1, " is beyond the ",
              table.cosines.size(0), " positions of the rotary table");
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& qkv, const AttentionMask& mask,
                            const AttentionHeads& heads, const RotaryTable& table) {
  check_rows(qkv, mask, heads, table);
  // Where some rows do not ask, queries are not the rows.
  if (has_attention_kernel(qkv, heads) && mask.queries() == mask.rows()) {
    return PackedAttentionFunction::apply(qkv, mask, heads, table);
  }
  const auto [q, k, v] = split_rows(qkv, mask, heads, table);
  return block_attention(q, k, v, mask, heads);
}

at::Tensor composed_packed_attention(const at::Tensor& qkv, const AttentionMask& mask,
                                     const AttentionHeads& heads, const RotaryTable& table) {
  check_rows(qkv, mask, heads, table);
  const auto [q, k, v] = split_rows(qkv, mask, heads, table);
  return composed_block_attention(q, k, v, mask, heads);
}

}  // namespace espalier
