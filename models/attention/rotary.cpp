#include "models/attention/rotary.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace espalier {
namespace {

struct Frequencies {
  at::Tensor per_token;  // (head_dim / 2) fp32, radians
  double attention_factor = 1.0;
};

at::Tensor plain_frequencies(int64_t head_dim, double base) {
  const at::Tensor steps = at::arange(0, head_dim, 2, at::kFloat) / static_cast<double>(head_dim);
  return at::pow(base, steps).reciprocal();
}

Frequencies dynamic_frequencies(int64_t length, int64_t head_dim, const RotaryOptions& o) {
  const double longest = static_cast<double>(std::max(length, o.trained_length)) /
                         static_cast<double>(o.trained_length);
  const auto dim = static_cast<double>(head_dim);
  const double stretch = std::pow(o.factor * longest - (o.factor - 1), dim / (dim - 2));
  return {plain_frequencies(head_dim, o.base * stretch)};
}

// The default attention_factor of YaRN, equation 22 of its paper.
double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// The dimension whose frequency turns `turns` times over the trained length.
double yarn_dimension(double turns, int64_t head_dim, const RotaryOptions& o) {
  const double length = static_cast<double>(o.trained_length);
  return static_cast<double>(head_dim) * std::log(length / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(o.base));
}

Frequencies yarn_frequencies(int64_t head_dim, const RotaryOptions& o) {
  double low = yarn_dimension(o.beta_fast, head_dim, o);
  double high = yarn_dimension(o.beta_slow, head_dim, o);
  if (o.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;
  const at::Tensor ramp = ((at::arange(head_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor kept = 1 - ramp;
  const at::Tensor plain = plain_frequencies(head_dim, o.base);
  const at::Tensor divided = (o.factor * plain.reciprocal()).reciprocal();
  const double attention =
      o.mscale != 0 && o.mscale_all_dim != 0
          ? yarn_scale(o.factor, o.mscale) / yarn_scale(o.factor, o.mscale_all_dim)
          : yarn_scale(o.factor, 1.0);
  return {divided * (1 - kept) + plain * kept, attention};
}

Frequencies long_rope_frequencies(int64_t length, int64_t head_dim, const RotaryOptions& o) {
  const std::vector<double>& factors = length > o.trained_length ? o.long_factors : o.short_factors;
  TORCH_CHECK(std::ssize(factors) == head_dim / 2, "longrope wants ", head_dim / 2,
              " factors, one a frequency, got ", factors.size());
  const at::Tensor divisors = at::tensor(factors, at::kDouble).to(at::kFloat);
  const double trained = static_cast<double>(o.trained_length);
  const double attention =
      o.factor <= 1 ? 1.0 : std::sqrt(1 + std::log(o.factor) / std::log(trained));
  const at::Tensor plain = plain_frequencies(head_dim, o.base);
  return {(divisors * plain.reciprocal()).reciprocal(), attention};
}

Frequencies llama3_frequencies(int64_t head_dim, const RotaryOptions& o) {
  const at::Tensor plain = plain_frequencies(head_dim, o.base);
  const at::Tensor wavelengths = 2 * std::numbers::pi * plain.reciprocal();
  const auto trained = static_cast<double>(o.trained_length);
  const at::Tensor is_long = wavelengths > trained / o.low_frequency_factor;
  const at::Tensor is_short = wavelengths < trained / o.high_frequency_factor;
  const at::Tensor divided = plain / o.factor;
  const at::Tensor kept = (trained / wavelengths - o.low_frequency_factor) /
                          (o.high_frequency_factor - o.low_frequency_factor);
  const at::Tensor between = (1 - kept) * divided + kept * plain;
  return {at::where(is_long, divided, at::where(is_short, plain, between))};
}

Frequencies frequencies(int64_t length, int64_t head_dim, const RotaryOptions& o) {
  const bool needs_length =
      o.scaling != RotaryScaling::kNone && o.scaling != RotaryScaling::kLinear;
  TORCH_CHECK(o.base > 0 && o.factor > 0 && (!needs_length || o.trained_length > 0),
              "rotary positions want a positive base, factor and trained length, got ", o.base,
              ", ", o.factor, " and ", o.trained_length);
  switch (o.scaling) {
    case RotaryScaling::kNone:
      return {plain_frequencies(head_dim, o.base)};
    case RotaryScaling::kLinear:
      return {plain_frequencies(head_dim, o.base) / o.factor};
    case RotaryScaling::kDynamic:
      return dynamic_frequencies(length, head_dim, o);
    case RotaryScaling::kYarn:
      return yarn_frequencies(head_dim, o);
    case RotaryScaling::kLongRope:
      return long_rope_frequencies(length, head_dim, o);
    case RotaryScaling::kLlama3:
      return llama3_frequencies(head_dim, o);
  }
  TORCH_INTERNAL_ASSERT(false);
}

}  // namespace

RotaryTable make_rotary_table(int64_t length, int64_t head_dim, const RotaryOptions& options) {
  const Frequencies turns = frequencies(length, head_dim, options);
  const at::Tensor angles = at::outer(at::arange(length, at::kFloat), turns.per_token);
  const double scale =
      options.attention_factor > 0 ? options.attention_factor : turns.attention_factor;
  at::Tensor cosines = angles.cos(), sines = angles.sin();
  if (scale != 1.0) {
    cosines = cosines * scale;
    sines = sines * scale;
  }
  return {cosines.contiguous(), sines.contiguous()};
}

at::Tensor rotate(const at::Tensor& x, const RotaryTable& angles) {
  // Angles in bfloat16 would be off by up to a hundredth of a turn at long distances.
  const bool is_double = x.scalar_type() == at::kDouble;
  const at::Tensor c = angles.cosines.to(x.device(), is_double ? at::kDouble : at::kFloat);
  const at::Tensor s = angles.sines.to(x.device(), is_double ? at::kDouble : at::kFloat);
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1)
      .to(x.scalar_type());
}

}  // namespace espalier
