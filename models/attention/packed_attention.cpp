#include "models/attention/packed_attention.h"

#include <torch/torch.h>

#include <ATen/Parallel.h>

#include "models/kernels/attention.h"
#include "models/kernels/tensor_pointers.h"

namespace espalier {
namespace {

using kernels::pointer;
using kernels::with_kernel_type;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What autograd keeps of a mask.
struct SavedMask : torch::CustomClassHolder {
  explicit SavedMask(AttentionMask kept) : mask(std::move(kept)) {}
  AttentionMask mask;
};

c10::IValue save(const AttentionMask& mask) {
  return c10::IValue::make_capsule(c10::make_intrusive<SavedMask>(mask));
}

AttentionMask restore(const c10::IValue& saved) {
  return static_cast<const SavedMask&>(*saved.toCapsule()).mask;
}

// body(rows, key-value head, scratch) for every group and key-value head.
template <class Body>
void for_units(const kernels::AttentionShape& shape, const AttentionMask& mask, const Body& body) {
  const int64_t units = mask.sequences() * shape.kv_heads;
  at::parallel_for(0, units, 8, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(
        static_cast<size_t>(kernels::attention_scratch_floats(shape, mask.longest())));
    for (int64_t unit = begin; unit < end; ++unit) {
      const MaskGroup& group = mask.groups()[static_cast<size_t>(unit / shape.kv_heads)];
      const kernels::SequenceRows rows{group.first, group.stride, group.length,
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

// The groups of a mask as sequences padded to one length. Empty cells point at row 0.
struct PaddedGrid {
  at::Tensor rows;     // (groups, longest) int64
  at::Tensor filled;   // (groups, longest) bool: the cell holds a token
  at::Tensor is_full;  // (groups) bool: the group's rule
};

PaddedGrid padded_grid(const AttentionMask& mask) {
  const PaddedGrid grid{at::zeros({mask.sequences(), mask.longest()}, at::kLong),
                        at::zeros({mask.sequences(), mask.longest()}, at::kBool),
                        at::zeros({mask.sequences()}, at::kBool)};
  auto* rows = grid.rows.data_ptr<int64_t>();
  auto* filled = grid.filled.data_ptr<bool>();
  auto* is_full = grid.is_full.data_ptr<bool>();
  for (const MaskGroup& group : mask.groups()) {
    *is_full++ = group.rule == MaskRule::kFull;
    for (int64_t t = 0; t < group.length; ++t) {
      rows[t] = group.first + t * group.stride;
      filled[t] = true;
    }
    rows += mask.longest();
    filled += mask.longest();
  }
  return grid;
}

// (groups, 1, longest, longest) bool: which cells of its group a cell sees. A cell without a token
// sees what it would otherwise, so that its softmax has something to sum; nobody reads it.
at::Tensor visible_cells(const PaddedGrid& grid) {
  const int64_t longest = grid.filled.size(1);
  const at::Tensor is_past = at::ones({longest, longest}, at::kBool).tril();
  return is_past.logical_or(grid.is_full.view({-1, 1, 1, 1}))
      .logical_and(grid.filled.view({-1, 1, 1, longest}));
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& qkv, const AttentionMask& mask,
                            const AttentionHeads& heads, const RotaryTable& table) {
  TORCH_CHECK(qkv.dim() == 2 && qkv.size(0) == mask.rows() && qkv.size(1) == heads.row_width(),
              "packed_attention wants (", mask.rows(), ", ", heads.row_width(), "), got ",
              qkv.sizes());
  TORCH_CHECK(!table.cosines.defined() || table.cosines.size(0) >= mask.longest(),
              "packed_attention: a sequence of ", mask.longest(), " tokens is longer than the ",
              table.cosines.size(0), " positions of the rotary table");
  if (!kernels::has_kernel_type(qkv) || heads.head_dim % simd::kLanes != 0) {
    return composed_packed_attention(qkv, mask, heads, table);
  }
  return PackedAttentionFunction::apply(qkv, mask, heads, table);
}

at::Tensor composed_packed_attention(const at::Tensor& qkv, const AttentionMask& mask,
                                     const AttentionHeads& heads, const RotaryTable& table) {
  const PaddedGrid grid = padded_grid(mask);
  const at::Tensor rows = grid.rows.to(qkv.device());
  const int64_t batch = mask.sequences();
  const int64_t length = mask.longest();
  const auto head_tensor = [&](int64_t first_head, int64_t count) {
    return qkv.narrow(1, first_head * heads.head_dim, count * heads.head_dim)
        .index_select(0, rows.flatten())
        .view({batch, length, count, heads.head_dim})
        .transpose(1, 2);
  };
  at::Tensor q = head_tensor(0, heads.heads);
  at::Tensor k = head_tensor(heads.heads, heads.kv_heads);
  at::Tensor v = head_tensor(heads.heads + heads.kv_heads, heads.kv_heads);
  if (table.cosines.defined()) {
    q = rotate(q, table, 0);
    k = rotate(k, table, 0);
  }
  const int64_t group = heads.heads / heads.kv_heads;
  if (group > 1) {
    k = k.repeat_interleave(group, 1);
    v = v.repeat_interleave(group, 1);
  }
  // Padding is last in a sequence, so causal queries with a token see none of it.
  const std::optional<at::Tensor> visible =
      mask.is_causal() ? std::nullopt : std::optional(visible_cells(grid).to(qkv.device()));
  const at::Tensor out =
      at::scaled_dot_product_attention(q, k, v, visible, 0.0, mask.is_causal()).transpose(1, 2);
  const at::Tensor cells = grid.filled.to(qkv.device()).flatten().nonzero().squeeze(1);
  const at::Tensor tokens =
      out.reshape({batch * length, heads.heads * heads.head_dim}).index_select(0, cells);
  return at::zeros({qkv.size(0), tokens.size(1)}, tokens.options())
      .index_copy(0, rows.flatten().index_select(0, cells), tokens);
}

}  // namespace espalier
