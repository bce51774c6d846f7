#include "tests/gpu/ceilings.h"

#include "tests/gpu/timing.h"

namespace espalier {
namespace {

// Rates of a body that does `work`, from sorted seconds.
nlohmann::json rates(double work, const std::vector<double>& seconds) {
  return {{"median", work / seconds[seconds.size() / 2]},
          {"least", work / seconds.back()},
          {"most", work / seconds.front()}};
}

}  // namespace

nlohmann::json measure_ceilings(at::Device device) {
  const torch::NoGradGuard no_grad;
  const int64_t bytes = device.is_cuda() ? int64_t{4} << 30 : int64_t{64} << 20;
  const int64_t side = device.is_cuda() ? 8192 : 512;
  nlohmann::json found = {{"copied_bytes", bytes}, {"product_side", side}};
  {
    const at::Tensor from = at::ones({bytes}, at::TensorOptions(device).dtype(at::kByte));
    const at::Tensor to = at::empty_like(from);
    const auto copy = [&] { to.copy_(from); };
    seconds_per_call(device, 1, 3, copy);
    found["copy_TB_per_s"] =
        rates(2.0 * static_cast<double>(bytes) / 1e12, seconds_per_call(device, 9, 10, copy));
  }
  const at::Tensor a = at::randn({side, side}, device).to(at::kBFloat16);
  const at::Tensor b = at::randn({side, side}, device).to(at::kBFloat16);
  at::Tensor product = at::empty_like(a);
  const auto multiply = [&] { at::mm_out(product, a, b); };
  seconds_per_call(device, 1, 3, multiply);
  const auto n = static_cast<double>(side);
  found["bf16_product_TFLOP_per_s"] =
      rates(2.0 * n * n * n / 1e12, seconds_per_call(device, 9, 10, multiply));
  return found;
}

}  // namespace espalier
