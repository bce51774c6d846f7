#include "models/attention/packed_attention.h"

#include <torch/torch.h>

#include <ATen/Parallel.h>

#include "models/attention/attention_plan.h"
#include "models/attention/saved_mask.h"
#include "models/kernels/attention.h"
#include "models/kernels/tensor_pointers.h"

namespace espalier {
namespace {

using kernels::pointer;
using kernels::with_kernel_type;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// body(rows, key-value head, scratch) for every group of every sample and key-value head.
template <class Body>
void for_units(const kernels::AttentionShape& shape, const AttentionMask& mask, const Body& body) {
  const auto groups = static_cast<int64_t>(mask.groups().size());
  const int64_t units = mask.samples() * groups * shape.kv_heads;
  at::parallel_for(0, units, 8, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(
        static_cast<size_t>(kernels::attention_scratch_floats(shape, mask.longest())));
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t sequence = unit / shape.kv_heads;
      const MaskGroup& group = mask.groups()[static_cast<size_t>(sequence % groups)];
      const int64_t first = sequence / groups * mask.sample_rows() + group.first;
      const kernels::SequenceRows rows{first, group.stride, group.length, group.position,
                                       group.rule == MaskRule::kCausal};
      body(rows, unit % shape.kv_heads, scratch.data());
    }
  });
}

struct PackedAttentionFunction : torch::autograd::Function<PackedAttentionFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv, const AttentionMask& mask,
                            const AttentionHeads& heads, const RotaryTable& table) {
    const at::Tensor in = qkv.contiguous();
    const at::Tensor out = at::empty({in.size(0), heads.heads * heads.head_dim}, in.options());
    const at::Tensor log_sum = at::empty({in.size(0), heads.heads}, in.options().dtype(at::kFloat));
    const kernels::AttentionShape shape{heads.heads, heads.kv_heads, heads.head_dim,
                                        pointer<float>(table.cosines), pointer<float>(table.sines)};
    with_kernel_type(in.scalar_type(), [&](auto t) {
      using T = decltype(t);
      for_units(shape, mask, [&](const auto& rows, int64_t kv_head, float* scratch) {
        kernels::attention(shape, rows, kv_head, pointer<T>(in), pointer<T>(out),
                           pointer<float>(log_sum), scratch);
      });
    });
    ctx->save_for_backward({in, log_sum, table.cosines, table.sines});
    ctx->saved_data["mask"] = save(mask);
    ctx->saved_data["heads"] = heads.heads;
    ctx->saved_data["kv_heads"] = heads.kv_heads;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const AttentionMask mask = restore(ctx->saved_data["mask"]);
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const int64_t kv_heads = ctx->saved_data["kv_heads"].toInt();
    const at::Tensor grad_out = grads[0].contiguous();
    const at::Tensor grad = at::empty_like(saved[0]);
    const kernels::AttentionShape shape{heads, kv_heads, grad_out.size(1) / heads,
                                        pointer<float>(saved[2]), pointer<float>(saved[3])};
    with_kernel_type(grad.scalar_type(), [&](auto t) {
      using T = decltype(t);
      for_units(shape, mask, [&](const auto& rows, int64_t kv_head, float* scratch) {
        kernels::attention_backward(shape, rows, kv_head, pointer<T>(saved[0]),
                                    pointer<float>(saved[1]), pointer<T>(grad_out),
                                    pointer<T>(grad), scratch);
      });
    });
    return {grad, {}, {}, {}};
  }
};

// Whether the project's kernel takes it: its scratch is quadratic in the longest group, which has
// to stay in the cache.
bool has_own_kernel(const at::Tensor& qkv, const AttentionMask& mask, int64_t head_dim) {
  constexpr int64_t kLongest = 512;
  return kernels::has_kernel_type(qkv) && head_dim % simd::kLanes == 0 && mask.is_separate() &&
         mask.longest() <= kLongest;
}

struct QueriesKeysValues {
  at::Tensor q, k, v;
};

// Rotated, as block attention takes them.
QueriesKeysValues split_rows(const at::Tensor& qkv, const AttentionMask& mask,
                             const AttentionHeads& heads, const RotaryTable& table) {
  const int64_t width = heads.heads * heads.head_dim;
  const int64_t kv_width = heads.kv_heads * heads.head_dim;
  const AttentionPlan& plan = mask.plan();
  at::Tensor qk = qkv.narrow(1, 0, width + kv_width);
  if (table.cosines.defined()) {
    const at::Tensor positions = plan.positions.to(qkv.device());
    const RotaryTable rows{table.cosines.index_select(0, positions).unsqueeze(1),
                           table.sines.index_select(0, positions).unsqueeze(1)};
    const at::Tensor split =
        qk.view({mask.samples(), mask.sample_rows(), heads.heads + heads.kv_heads, heads.head_dim});
    qk = rotate_rows(split, rows).view({qkv.size(0), width + kv_width});
  }
  at::Tensor q = qk.narrow(1, 0, width);
  if (plan.query_rows.defined()) {
    q = q.view({mask.samples(), mask.sample_rows(), width})
            .index_select(1, plan.query_rows.to(qkv.device()))
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
  if (has_own_kernel(qkv, mask, heads.head_dim)) {
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
