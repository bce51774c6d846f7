#include "models/image_tokenizer/conv_blocks.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include <array>
#include <cmath>
#include <tuple>

#include "models/kernels/elementwise.h"
#include "models/kernels/tensor_pointers.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kTaps = 9;
constexpr int64_t kElementsPerPiece = 32768;  // of work for one thread

at::ScalarType compute_type(const at::Tensor& tensor) {
  const auto device = tensor.device().type();
  return at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device)
                                                   : tensor.scalar_type();
}

// Views: (B, H, W, C) and (B, C, H, W) in channels-last order are the same memory. So for weights.
at::Tensor as_channels_first(const at::Tensor& map) { return map.permute({0, 3, 1, 2}); }
at::Tensor as_channels_last(const at::Tensor& map) { return map.permute({0, 2, 3, 1}); }

at::Tensor convolve(const at::Tensor& map, const at::Tensor& weight, const at::Tensor& bias) {
  return as_channels_last(at::convolution(as_channels_first(map), as_channels_first(weight), bias,
                                          {1, 1}, {1, 1}, {1, 1}, false, {0, 0}, 1))
      .contiguous();
}

struct ConvGradients {
  at::Tensor input, weight, bias;
};

ConvGradients convolve_backward(const at::Tensor& gradient, const at::Tensor& map,
                                const at::Tensor& weight, bool input_wanted) {
  auto [input, d_weight, d_bias] =
      at::convolution_backward(as_channels_first(gradient), as_channels_first(map),
                               as_channels_first(weight), at::IntArrayRef(weight.size(0)), {1, 1},
                               {1, 1}, {1, 1}, false, {0, 0}, 1, {input_wanted, true, true});
  return {input.defined() ? as_channels_last(input).contiguous() : input,
          as_channels_last(d_weight).to(at::kFloat).contiguous(), d_bias.to(at::kFloat)};
}

// Rows with one row of zeros behind them, where the neighbour table points for absent cells.
at::Tensor pad_rows(const at::Tensor& rows) {
  at::Tensor padded = at::empty({rows.size(0) + 1, rows.size(1)}, rows.options());
  padded.narrow(0, 0, rows.size(0)).copy_(rows);
  padded[rows.size(0)].zero_();
  return padded;
}

at::Tensor relu_and_pad_rows(const at::Tensor& rows) {
  at::Tensor padded = at::empty({rows.size(0) + 1, rows.size(1)}, rows.options());
  at::Tensor body = padded.narrow(0, 0, rows.size(0));
  at::clamp_min_out(body, rows, 0);
  padded[rows.size(0)].zero_();
  return padded;
}

// (V + 1, C) -> (V, 9 C): the inputs of each cell, tap by tap.
at::Tensor gather_taps(const at::Tensor& padded, const at::Tensor& neighbours) {
  return at::index_select(padded, 0, neighbours.view(-1))
      .view({neighbours.size(0), kTaps * padded.size(1)});
}

// (O, 3, 3, C) -> (9 C, O), rows in the order of gather_taps. A view.
at::Tensor taps_to_output(const at::Tensor& weight) { return weight.flatten(1).t(); }

// The weight of the backward pass to the input: cell u touches v through tap k exactly when v
// touches u through tap 8 - k, so the same table serves, with the taps reversed. (9 O, C).
at::Tensor reversed_taps_to_input(const at::Tensor& weight) {
  return weight.flip({1, 2})
      .permute({1, 2, 0, 3})
      .reshape({kTaps * weight.size(0), weight.size(3)});
}

at::Tensor visible_weight_gradient(const at::Tensor& gradient, const at::Tensor& taps) {
  return at::mm(gradient.t(), taps)
      .to(at::kFloat)
      .view({gradient.size(1), 3, 3, taps.size(1) / kTaps});
}

at::Tensor bias_gradient(const at::Tensor& gradient) { return gradient.sum(0, false, at::kFloat); }

at::Tensor visible_input_gradient(const at::Tensor& gradient, const at::Tensor& neighbours,
                                  const at::Tensor& weight) {
  return at::mm(gather_taps(pad_rows(gradient), neighbours), reversed_taps_to_input(weight));
}

// In place: gradient of relu where `output` is what relu gave, plus `addend`.
void relu_backward(at::Tensor& gradient, const at::Tensor& output, const at::Tensor& addend = {}) {
  const bool is_fusable = kernels::has_kernel_type(gradient) && gradient.is_contiguous() &&
                          output.is_contiguous() && (!addend.defined() || addend.is_contiguous());
  if (!is_fusable) {
    at::threshold_backward_out(gradient, gradient, output, 0);
    if (addend.defined()) gradient.add_(addend);
    return;
  }
  kernels::with_kernel_type(gradient.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, gradient.numel(), kElementsPerPiece, [&](int64_t begin, int64_t end) {
      kernels::relu_backward(kernels::pointer<T>(gradient), kernels::pointer<T>(output),
                             kernels::pointer<T>(addend), begin, end);
    });
  });
}

struct DenseConv : torch::autograd::Function<DenseConv> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& map, const at::Tensor& weight,
                            const at::Tensor& bias) {
    const auto type = compute_type(map);
    const at::Tensor input = map.to(type);
    const at::Tensor used_weight = weight.to(type);
    ctx->save_for_backward({input, used_weight});
    ctx->saved_data["input_wanted"] = map.requires_grad();
    ctx->saved_data["type"] = map.scalar_type();
    return convolve(input, used_weight, bias.to(type));
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const bool input_wanted = ctx->saved_data["input_wanted"].toBool();
    ConvGradients result = convolve_backward(gradients[0].to(saved[0].scalar_type()).contiguous(),
                                             saved[0], saved[1], input_wanted);
    if (input_wanted) result.input = result.input.to(ctx->saved_data["type"].toScalarType());
    return {result.input, result.weight, result.bias};
  }
};

struct VisibleConv : torch::autograd::Function<VisibleConv> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& rows,
                            const at::Tensor& neighbours, const at::Tensor& weight,
                            const at::Tensor& bias) {
    const auto type = compute_type(rows);
    const at::Tensor taps = gather_taps(pad_rows(rows.to(type)), neighbours);
    const at::Tensor used_weight = weight.to(type);
    ctx->save_for_backward({taps, neighbours, used_weight});
    ctx->saved_data["input_wanted"] = rows.requires_grad();
    ctx->saved_data["type"] = rows.scalar_type();
    return at::addmm(bias.to(type), taps, taps_to_output(used_weight));
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor gradient = gradients[0].to(saved[0].scalar_type()).contiguous();
    at::Tensor input;
    if (ctx->saved_data["input_wanted"].toBool()) {
      input = visible_input_gradient(gradient, saved[1], saved[2])
                  .to(ctx->saved_data["type"].toScalarType());
    }
    return {input, at::Tensor(), visible_weight_gradient(gradient, saved[0]),
            bias_gradient(gradient)};
  }
};

// A whole block in one node: only two activations are kept, and the passes over them that plain
// autograd makes out of place are made in place.
struct DenseBlock : torch::autograd::Function<DenseBlock> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& map, const at::Tensor& weight1,
                            const at::Tensor& bias1, const at::Tensor& weight2,
                            const at::Tensor& bias2) {
    const auto type = compute_type(map);
    const at::Tensor residual = map.to(type);
    const at::Tensor active = at::relu(residual);
    const at::Tensor w1 = weight1.to(type);
    const at::Tensor w2 = weight2.to(type);
    at::Tensor hidden = convolve(active, w1, bias1.to(type));
    hidden.relu_();
    ctx->save_for_backward({active, hidden, w1, w2});
    return convolve(hidden, w2, bias2.to(type)).add_(residual);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor gradient = gradients[0].to(saved[0].scalar_type()).contiguous();
    ConvGradients second = convolve_backward(gradient, saved[1], saved[3], true);
    relu_backward(second.input, saved[1]);
    ConvGradients first = convolve_backward(second.input, saved[0], saved[2], true);
    relu_backward(first.input, saved[0], gradient);
    return {first.input, first.weight, first.bias, second.weight, second.bias};
  }
};

struct VisibleBlock : torch::autograd::Function<VisibleBlock> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& rows,
                            const at::Tensor& neighbours, const at::Tensor& weight1,
                            const at::Tensor& bias1, const at::Tensor& weight2,
                            const at::Tensor& bias2) {
    const auto type = compute_type(rows);
    const at::Tensor residual = rows.to(type);
    const at::Tensor w1 = weight1.to(type);
    const at::Tensor w2 = weight2.to(type);
    const at::Tensor active = relu_and_pad_rows(residual);
    const at::Tensor taps1 = gather_taps(active, neighbours);
    const at::Tensor hidden =
        relu_and_pad_rows(at::addmm(bias1.to(type), taps1, taps_to_output(w1)));
    const at::Tensor taps2 = gather_taps(hidden, neighbours);
    ctx->save_for_backward({neighbours, active, taps1, hidden, taps2, w1, w2});
    return at::addmm(bias2.to(type), taps2, taps_to_output(w2)).add_(residual);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor& neighbours = saved[0];
    const int64_t rows = neighbours.size(0);
    const at::Tensor gradient = gradients[0].to(saved[1].scalar_type()).contiguous();
    at::Tensor hidden = visible_input_gradient(gradient, neighbours, saved[6]);
    relu_backward(hidden, saved[3].narrow(0, 0, rows));
    at::Tensor input = visible_input_gradient(hidden, neighbours, saved[5]);
    relu_backward(input, saved[1].narrow(0, 0, rows), gradient);
    return {input,
            at::Tensor(),
            visible_weight_gradient(hidden, saved[2]),
            bias_gradient(hidden),
            visible_weight_gradient(gradient, saved[4]),
            bias_gradient(gradient)};
  }
};

}  // namespace

Conv3x3Impl::Conv3x3Impl(int64_t in_channels, int64_t out_channels) {
  const double deviation = std::sqrt(2.0 / static_cast<double>(kTaps * in_channels));
  weight =
      register_parameter("weight", torch::randn({out_channels, 3, 3, in_channels}) * deviation);
  bias = register_parameter("bias", torch::zeros({out_channels}));
}

at::Tensor Conv3x3Impl::forward(const at::Tensor& map) {
  return DenseConv::apply(map, weight, bias);
}

at::Tensor Conv3x3Impl::forward_visible(const at::Tensor& rows, const at::Tensor& neighbours) {
  return VisibleConv::apply(rows, neighbours, weight, bias);
}

ResidualBlockImpl::ResidualBlockImpl(int64_t channels) {
  first = register_module("first", Conv3x3(channels, channels));
  second = register_module("second", Conv3x3(channels, channels));
  const torch::NoGradGuard no_gradient;
  second->weight.mul_(0.1);
}

at::Tensor ResidualBlockImpl::forward(const at::Tensor& map) {
  return DenseBlock::apply(map, first->weight, first->bias, second->weight, second->bias);
}

at::Tensor ResidualBlockImpl::forward_visible(const at::Tensor& rows,
                                              const at::Tensor& neighbours) {
  return VisibleBlock::apply(rows, neighbours, first->weight, first->bias, second->weight,
                             second->bias);
}

ResidualBlocksImpl::ResidualBlocksImpl(int64_t channels, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    blocks_.push_back(register_module(std::to_string(i), ResidualBlock(channels)));
  }
}

at::Tensor ResidualBlocksImpl::forward(at::Tensor map) {
  for (ResidualBlock& block : blocks_) map = block->forward(map);
  return map;
}

at::Tensor ResidualBlocksImpl::forward_visible(at::Tensor rows, const at::Tensor& neighbours) {
  for (ResidualBlock& block : blocks_) rows = block->forward_visible(rows, neighbours);
  return rows;
}

at::Tensor merge_cells(const at::Tensor& map) {
  const int64_t batch = map.size(0), height = map.size(1), width = map.size(2), c = map.size(3);
  return map.view({batch, height / 2, 2, width / 2, 2, c})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({batch, height / 2, width / 2, 4 * c});
}

at::Tensor split_cells(const at::Tensor& map) {
  const int64_t batch = map.size(0), height = map.size(1), width = map.size(2), c = map.size(3);
  return map.view({batch, height, width, 2, 2, c / 4})
      .permute({0, 1, 3, 2, 4, 5})
      .reshape({batch, 2 * height, 2 * width, c / 4});
}

}  // namespace espalier
