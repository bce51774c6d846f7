#include "models/layers/fused_ops.h"

#include <torch/torch.h>

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include "models/kernels/elementwise.h"
#include "models/kernels/tensor_pointers.h"

namespace espalier {
namespace {

using kernels::pointer;
using kernels::with_kernel_type;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Fixed pieces, so that sums over rows do not depend on the number of threads.
constexpr int64_t kRowsPerPiece = 128;

template <class Body>
void for_rows(int64_t rows, const Body& body) {
  at::parallel_for(0, rows, kRowsPerPiece, body);
}

struct AddRmsNormFunction : torch::autograd::Function<AddRmsNormFunction> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x,
                               const std::optional<at::Tensor>& delta, const at::Tensor& weight,
                               double epsilon, at::ScalarType type) {
    const int64_t rows = x.size(0);
    const int64_t width = x.size(1);
    const at::Tensor x_in = x.contiguous();
    const at::Tensor delta_in = delta ? delta->contiguous() : at::Tensor();
    const at::Tensor sum = delta ? at::empty_like(x_in) : x_in;
    const at::Tensor out = at::empty({rows, width}, x.options().dtype(type));
    const at::Tensor inverse = at::empty({rows}, x.options());
    with_kernel_type(type, [&](auto t) {
      using T = decltype(t);
      const kernels::AddRmsNorm<T> args{pointer<float>(x_in),
                                        pointer<T>(delta_in),
                                        pointer<float>(weight),
                                        delta ? pointer<float>(sum) : nullptr,
                                        pointer<T>(out),
                                        pointer<float>(inverse),
                                        static_cast<float>(epsilon)};
      for_rows(rows,
               [&](int64_t begin, int64_t end) { kernels::add_rms_norm(args, begin, end, width); });
    });
    ctx->save_for_backward({sum, inverse, weight});
    ctx->saved_data["has_delta"] = delta.has_value();
    ctx->set_materialize_grads(false);
    return {delta ? sum : x_in.view_as(x_in), out};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const bool has_delta = ctx->saved_data["has_delta"].toBool();
    if (!grads[1].defined()) {
      return {grads[0], {}, {}, {}, {}};
    }
    const at::Tensor& sum = saved[0];
    const int64_t rows = sum.size(0);
    const int64_t width = sum.size(1);
    const at::Tensor grad_out = grads[1].contiguous();
    const at::Tensor grad_sum = grads[0].defined() ? grads[0].contiguous() : at::Tensor();
    const at::Tensor grad_x = at::empty_like(sum);
    const at::Tensor grad_delta =
        has_delta ? at::empty_like(sum, sum.options().dtype(grad_out.scalar_type())) : at::Tensor();
    const int64_t pieces = (rows + kRowsPerPiece - 1) / kRowsPerPiece;
    const at::Tensor grad_weight = at::zeros({pieces, width}, sum.options());
    with_kernel_type(grad_out.scalar_type(), [&](auto t) {
      using T = decltype(t);
      at::parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
        for (int64_t piece = first; piece < last; ++piece) {
          const kernels::AddRmsNormBackward<T> args{
              pointer<float>(sum),      pointer<float>(saved[1]),
              pointer<float>(saved[2]), pointer<float>(grad_sum),
              pointer<T>(grad_out),     pointer<float>(grad_x),
              pointer<T>(grad_delta),   pointer<float>(grad_weight) + piece * width};
          kernels::add_rms_norm_backward(args, piece * kRowsPerPiece,
                                         std::min(rows, (piece + 1) * kRowsPerPiece), width);
        }
      });
    });
    return {grad_x, grad_delta, grad_weight.sum(0), {}, {}};
  }
};

struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_up) {
    const at::Tensor in = gate_up.contiguous();
    const int64_t width = in.size(1) / 2;
    const at::Tensor out = at::empty({in.size(0), width}, in.options());
    with_kernel_type(in.scalar_type(), [&](auto t) {
      using T = decltype(t);
      for_rows(in.size(0), [&](int64_t begin, int64_t end) {
        kernels::swiglu(pointer<T>(in), pointer<T>(out), begin, end, width);
      });
    });
    ctx->save_for_backward({in});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const at::Tensor in = ctx->get_saved_variables()[0];
    const at::Tensor grad_out = grads[0].contiguous();
    const at::Tensor grad = at::empty_like(in);
    with_kernel_type(in.scalar_type(), [&](auto t) {
      using T = decltype(t);
      for_rows(in.size(0), [&](int64_t begin, int64_t end) {
        kernels::swiglu_backward(pointer<T>(in), pointer<T>(grad_out), pointer<T>(grad), begin, end,
                                 in.size(1) / 2);
      });
    });
    return {grad};
  }
};

// The gradient is made in forward, while the logits are in cache; backward scales it.
struct CrossEntropyFunction : torch::autograd::Function<CrossEntropyFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& targets) {
    const at::Tensor in = logits.contiguous();
    const at::Tensor to = targets.contiguous();
    const at::Tensor loss = at::empty({in.size(0)}, in.options().dtype(at::kFloat));
    const at::Tensor grad = logits.requires_grad() ? at::empty_like(in) : at::Tensor();
    with_kernel_type(in.scalar_type(), [&](auto t) {
      using T = decltype(t);
      for_rows(in.size(0), [&](int64_t begin, int64_t end) {
        kernels::cross_entropy(pointer<T>(in), to.data_ptr<int64_t>(), pointer<float>(loss),
                               pointer<T>(grad), begin, end, in.size(1));
      });
    });
    ctx->save_for_backward({grad});
    return loss.sum();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {ctx->get_saved_variables()[0] * grads[0], {}};
  }
};

void check_targets(const at::Tensor& logits, const at::Tensor& targets) {
  TORCH_CHECK(logits.dim() == 2 && targets.dim() == 1 && logits.size(0) == targets.size(0) &&
                  targets.scalar_type() == at::kLong,
              "cross_entropy_sum wants logits (N, K) and N int64 targets, got ", logits.sizes(),
              " and ", targets.sizes(), " ", targets.scalar_type());
  if (!targets.is_cpu() || targets.numel() == 0) return;
  const auto [low, high] = at::aminmax(targets);
  TORCH_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < logits.size(1),
              "cross_entropy_sum: targets must lie in 0..", logits.size(1) - 1, ", got ",
              low.item<int64_t>(), "..", high.item<int64_t>());
}

}  // namespace

at::ScalarType compute_type(const at::Tensor& on_device) {
  const auto device = on_device.device().type();
  if (at::autocast::is_autocast_enabled(device)) return at::autocast::get_autocast_dtype(device);
  return at::kFloat;
}

std::pair<at::Tensor, at::Tensor> add_rms_norm(const at::Tensor& x, const at::Tensor& delta,
                                               const at::Tensor& weight, double epsilon) {
  const at::ScalarType type = compute_type(x);
  const bool delta_fits = !delta.defined() || delta.scalar_type() == type;
  if (!kernels::has_kernel_type(x) || x.scalar_type() != at::kFloat || !delta_fits ||
      (type != at::kFloat && type != at::kBFloat16)) {
    return composed_add_rms_norm(x, delta, weight, epsilon);
  }
  const auto optional_delta = delta.defined() ? std::optional(delta) : std::nullopt;
  const auto results = AddRmsNormFunction::apply(x, optional_delta, weight, epsilon, type);
  return {results[0], results[1]};
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  if (!kernels::has_kernel_type(gate_up)) return composed_swiglu(gate_up);
  return SwigluFunction::apply(gate_up);
}

at::Tensor cross_entropy_sum(const at::Tensor& logits, const at::Tensor& targets) {
  check_targets(logits, targets);
  if (!kernels::has_kernel_type(logits)) return composed_cross_entropy_sum(logits, targets);
  return CrossEntropyFunction::apply(logits, targets);
}

std::pair<at::Tensor, at::Tensor> composed_add_rms_norm(const at::Tensor& x,
                                                        const at::Tensor& delta,
                                                        const at::Tensor& weight, double epsilon) {
  const at::Tensor sum = delta.defined() ? x + delta : x;
  const at::ScalarType type = x.scalar_type() == at::kFloat ? compute_type(x) : x.scalar_type();
  // LibTorch has one kernel for it on a GPU, and the steps below anywhere else.
  if (x.is_cuda()) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto [normed, deviation] =
        at::_fused_rms_norm(sum, {sum.size(-1)}, weight.to(sum.scalar_type()), epsilon);
    return {sum, normed.to(type)};
  }
  const at::Tensor inverse = (sum.pow(2).mean(-1, true) + epsilon).rsqrt();
  return {sum, (sum * inverse * weight).to(type)};
}

at::Tensor composed_swiglu(const at::Tensor& gate_up) {
  const auto halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

at::Tensor composed_cross_entropy_sum(const at::Tensor& logits, const at::Tensor& targets) {
  const at::Tensor wide = logits.scalar_type() == at::kDouble ? logits : logits.to(at::kFloat);
  return at::nll_loss(at::log_softmax(wide, 1), targets, {}, at::Reduction::Sum);
}

}  // namespace espalier
