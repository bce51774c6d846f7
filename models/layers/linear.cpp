#include "models/layers/linear.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <atomic>
#include <cmath>

#include "models/layers/batch_invariance.h"
#include "models/layers/fused_ops.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// MKL takes its AVX2 path on processors that are not Intel's: 101 against oneDNN's 232 GFLOP/s on
// a Zen 5 core. On Intel both reach the same rate.
bool is_onednn_faster() {
#if defined(__x86_64__)
  static const bool faster = __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f");
  return faster;
#else
  return false;
#endif
}

at::Tensor onednn_linear(const at::Tensor& x, const at::Tensor& weight) {
  using Signature = at::Tensor(
      const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, c10::string_view,
      c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                             .typed<Signature>();
  return op.call(x, weight, std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

std::atomic<Fp32Library> g_fp32_library = Fp32Library::kFaster;

bool wants_onednn(const at::Tensor& x) {
  if (!x.is_cpu() || x.scalar_type() != at::kFloat) return false;
  const Fp32Library library = g_fp32_library;
  return library == Fp32Library::kOneDnn || (library == Fp32Library::kFaster && is_onednn_faster());
}

at::Tensor default_linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::mm(x, weight.t());
}

RowProduct product_for(const at::Tensor& x) {
  return wants_onednn(x) ? onednn_linear : default_linear;
}

bool can_be_invariant(const at::Tensor& x) {
  return is_batch_invariant() && x.is_cpu() && x.numel() > 0 &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

at::Tensor outputs_of_rows(const at::Tensor& x, const at::Tensor& weight) {
  return can_be_invariant(x) ? invariant_product(product_for(x), x, weight)
                             : product_for(x)(x, weight);
}

// Invariant where it costs next to nothing.
at::Tensor gradients_of_rows(const at::Tensor& grad, const at::Tensor& weight) {
  const at::Tensor transposed = weight.t();
  const RowProduct product = product_for(grad);
  return can_be_invariant(grad) && invariant_call_rows(product, transposed).are_all
             ? invariant_product(product, grad, transposed)
             : product(grad, transposed);
}

// `weight` is the parameter, `cast` the same numbers in the compute type.
struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const at::Tensor& cast) {
    const at::Tensor in = x.to(cast.scalar_type()).contiguous();
    ctx->save_for_backward({in, cast});
    ctx->saved_data["x_type"] = x.scalar_type();
    ctx->saved_data["weight_type"] = weight.scalar_type();
    ctx->saved_data["needs_x"] = x.requires_grad();
    ctx->saved_data["needs_weight"] = weight.requires_grad();
    ctx->saved_data["has_bias"] = bias.has_value();
    at::Tensor y = outputs_of_rows(in, cast);
    if (bias) y.add_(*bias);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor grad = grads[0].to(saved[1].scalar_type()).contiguous();
    const auto weight_type = ctx->saved_data["weight_type"].toScalarType();
    at::Tensor grad_x, grad_weight, grad_bias;
    if (ctx->saved_data["needs_x"].toBool()) {
      grad_x = gradients_of_rows(grad, saved[1]).to(ctx->saved_data["x_type"].toScalarType());
    }
    if (ctx->saved_data["needs_weight"].toBool()) {
      grad_weight = product_for(grad)(grad.t(), saved[0].t()).to(weight_type);
    }
    if (ctx->saved_data["has_bias"].toBool())
      grad_bias = grad.to(at::kFloat).sum(0).to(weight_type);
    return {grad_x, grad_weight, grad_bias, {}};
  }
};

}  // namespace

void set_fp32_library(Fp32Library library) { g_fp32_library = library; }

LinearImpl::LinearImpl(int64_t in_features, int64_t out_features, bool with_bias) {
  weight = register_parameter("weight", torch::empty({out_features, in_features}));
  torch::nn::init::normal_(weight, 0.0, 1.0 / std::sqrt(static_cast<double>(in_features)));
  if (with_bias) bias = register_parameter("bias", torch::zeros({out_features}));
}

at::Tensor LinearImpl::compute_weight(at::ScalarType type) {
  if (weight.scalar_type() == type) return weight.detach();
  if (!cached_.defined() || cached_version_ != weight._version() ||
      cached_storage_ != weight.const_data_ptr() || cached_.scalar_type() != type ||
      cached_.device() != weight.device()) {
    cached_ = weight.detach().to(type);
    cached_version_ = static_cast<uint32_t>(weight._version());
    cached_storage_ = weight.const_data_ptr();
  }
  return cached_;
}

at::Tensor LinearImpl::forward(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 2 && x.size(1) == weight.size(1), "Linear wants rows of ", weight.size(1),
              ", got ", x.sizes());
  const at::ScalarType type =
      weight.scalar_type() == at::kFloat ? compute_type(x) : weight.scalar_type();
  // The products below are already in the type they should be.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return LinearFunction::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt,
                               compute_weight(type));
}

}  // namespace espalier
