#include "models/attention/packed_attention.h"

#include <torch/torch.h>

#include <ATen/Parallel.h>

#include <algorithm>

#include "models/kernels/attention.h"
#include "models/kernels/tensor_pointers.h"

namespace espalier {
namespace {

using kernels::pointer;
using kernels::with_kernel_type;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// body(rows, key-value head, scratch) for every sequence and key-value head.
template <class Body>
void for_units(const kernels::AttentionShape& shape, const at::Tensor& spans, const Body& body) {
  const auto* span = spans.const_data_ptr<int64_t>();
  int64_t longest = 0;
  for (int64_t i = 0; i < spans.size(0); ++i) longest = std::max(longest, span[3 * i + 2]);
  const int64_t units = spans.size(0) * shape.kv_heads;
  at::parallel_for(0, units, 8, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(
        static_cast<size_t>(kernels::attention_scratch_floats(shape, longest)));
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t* s = span + 3 * (unit / shape.kv_heads);
      if (s[2] > 0) {
        body(kernels::SequenceRows{s[0], s[1], s[2]}, unit % shape.kv_heads, scratch.data());
      }
    }
  });
}

struct PackedAttentionFunction : torch::autograd::Function<PackedAttentionFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv, const at::Tensor& spans,
                            const AttentionHeads& heads, const RotaryTable& table) {
    const at::Tensor in = qkv.contiguous();
    const at::Tensor out = at::empty({in.size(0), heads.heads * heads.head_dim}, in.options());
    const at::Tensor log_sum = at::empty({in.size(0), heads.heads}, in.options().dtype(at::kFloat));
    const kernels::AttentionShape shape{heads.heads, heads.kv_heads, heads.head_dim,
                                        pointer<float>(table.cosines), pointer<float>(table.sines)};
    with_kernel_type(in.scalar_type(), [&](auto t) {
      using T = decltype(t);
      for_units(shape, spans, [&](const auto& rows, int64_t kv_head, float* scratch) {
        kernels::attention(shape, rows, kv_head, pointer<T>(in), pointer<T>(out),
                           pointer<float>(log_sum), scratch);
      });
    });
    ctx->save_for_backward({in, log_sum, spans, table.cosines, table.sines});
    ctx->saved_data["heads"] = heads.heads;
    ctx->saved_data["kv_heads"] = heads.kv_heads;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const int64_t kv_heads = ctx->saved_data["kv_heads"].toInt();
    const at::Tensor grad_out = grads[0].contiguous();
    const at::Tensor grad = at::empty_like(saved[0]);
    const kernels::AttentionShape shape{heads, kv_heads, grad_out.size(1) / heads,
                                        pointer<float>(saved[3]), pointer<float>(saved[4])};
    with_kernel_type(grad.scalar_type(), [&](auto t) {
      using T = decltype(t);
      for_units(shape, saved[2], [&](const auto& rows, int64_t kv_head, float* scratch) {
        kernels::attention_backward(shape, rows, kv_head, pointer<T>(saved[0]),
                                    pointer<float>(saved[1]), pointer<T>(grad_out),
                                    pointer<T>(grad), scratch);
      });
    });
    return {grad, {}, {}, {}};
  }
};

// Row of every token in a (sequences, longest) grid, and which cells hold a token. Empty cells
// point at row 0.
std::pair<at::Tensor, at::Tensor> padded_grid(const SequenceLayout& layout) {
  const at::Tensor rows = at::zeros({layout.sequences(), layout.longest()}, at::kLong);
  const at::Tensor filled = at::zeros({layout.sequences(), layout.longest()}, at::kBool);
  const auto* span = layout.spans().const_data_ptr<int64_t>();
  for (int64_t s = 0; s < layout.sequences(); ++s) {
    for (int64_t t = 0; t < span[3 * s + 2]; ++t) {
      rows.data_ptr<int64_t>()[s * layout.longest() + t] = span[3 * s] + t * span[3 * s + 1];
      filled.data_ptr<bool>()[s * layout.longest() + t] = true;
    }
  }
  return {rows, filled};
}

}  // namespace

SequenceLayout SequenceLayout::from_lengths(const std::vector<int64_t>& lengths) {
  SequenceLayout layout;
  layout.spans_ = at::empty({static_cast<int64_t>(lengths.size()), 3}, at::kLong);
  auto* span = layout.spans_.data_ptr<int64_t>();
  for (const int64_t length : lengths) {
    *span++ = layout.rows_;
    *span++ = 1;
    *span++ = length;
    layout.rows_ += length;
    layout.longest_ = std::max(layout.longest_, length);
  }
  return layout;
}

SequenceLayout SequenceLayout::position_major(int64_t count, int64_t length) {
  SequenceLayout layout;
  layout.spans_ = at::empty({count, 3}, at::kLong);
  layout.spans_.select(1, 0).copy_(at::arange(count, at::kLong));
  layout.spans_.select(1, 1).fill_(count);
  layout.spans_.select(1, 2).fill_(length);
  layout.rows_ = count * length;
  layout.longest_ = length;
  return layout;
}

RotaryTable make_rotary_table(int64_t length, int64_t head_dim, double base) {
  const at::Tensor steps = at::arange(0, head_dim, 2, at::kDouble) / static_cast<double>(head_dim);
  const at::Tensor frequencies = at::pow(base, -steps);
  const at::Tensor angles = at::outer(at::arange(length, at::kDouble), frequencies);
  return {angles.cos().to(at::kFloat).contiguous(), angles.sin().to(at::kFloat).contiguous()};
}

at::Tensor rotate(const at::Tensor& x, const RotaryTable& table, int64_t first) {
  const at::Tensor c = table.cosines.narrow(0, first, x.size(-2)).to(x.options());
  const at::Tensor s = table.sines.narrow(0, first, x.size(-2)).to(x.options());
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1);
}

at::Tensor packed_attention(const at::Tensor& qkv, const SequenceLayout& layout,
                            const AttentionHeads& heads, const RotaryTable& table) {
  TORCH_CHECK(qkv.dim() == 2 && qkv.size(0) == layout.rows() && qkv.size(1) == heads.row_width(),
              "packed_attention wants (", layout.rows(), ", ", heads.row_width(), "), got ",
              qkv.sizes());
  TORCH_CHECK(!table.cosines.defined() || table.cosines.size(0) >= layout.longest(),
              "packed_attention: a sequence of ", layout.longest(), " tokens is longer than the ",
              table.cosines.size(0), " positions of the rotary table");
  if (!kernels::has_kernel_type(qkv) || heads.head_dim % simd::kLanes != 0) {
    return composed_packed_attention(qkv, layout, heads, table);
  }
  return PackedAttentionFunction::apply(qkv, layout.spans(), heads, table);
}

at::Tensor composed_packed_attention(const at::Tensor& qkv, const SequenceLayout& layout,
                                     const AttentionHeads& heads, const RotaryTable& table) {
  const auto [grid, filled] = padded_grid(layout);
  const at::Tensor rows = grid.to(qkv.device());
  const int64_t batch = layout.sequences();
  const int64_t length = layout.longest();
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
  const at::Tensor out =
      at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true).transpose(1, 2);
  const at::Tensor cells = filled.to(qkv.device()).flatten().nonzero().squeeze(1);
  const at::Tensor tokens =
      out.reshape({batch * length, heads.heads * heads.head_dim}).index_select(0, cells);
  return at::zeros({qkv.size(0), tokens.size(1)}, tokens.options())
      .index_copy(0, rows.flatten().index_select(0, cells), tokens);
}

}  // namespace espalier
