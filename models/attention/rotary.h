#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// How the frequencies of rotary positions are stretched for texts longer than those of the first
// training; the names are those of "rope_type" in Hugging Face's config.json.
enum class RotaryScaling {
  kNone,      // "default"
  kLinear,    // all frequencies divided by the factor
  kDynamic,   // a base that grows with the length beyond trained_length (NTK-aware)
  kYarn,      // low frequencies divided, high ones kept, a ramp between (Peng et al., 2023)
  kLongRope,  // a divisor for every frequency, others beyond trained_length (Ding et al., 2024)
  kLlama3,    // as YaRN, with a ramp over wavelengths (Llama 3.1)
};

struct RotaryOptions {
  double base = 10000.0;
  RotaryScaling scaling = RotaryScaling::kNone;
  double factor = 1.0;
  int64_t trained_length = 0;     // tokens; of every form but kLinear
  double attention_factor = 0.0;  // of cosines and sines; 0 = as the form's paper says

  // kYarn: turns over trained_length beyond which a frequency is kept, and below which it is
  // divided; whether the ramp ends at whole dimensions; the scales that a default
  // attention_factor is the quotient of, 0 = none.
  double beta_fast = 32.0, beta_slow = 1.0;
  bool truncate = true;
  double mscale = 0.0, mscale_all_dim = 0.0;

  // kLlama3: trained_length over these are the wavelengths where the ramp begins and ends.
  double low_frequency_factor = 1.0, high_frequency_factor = 4.0;

  // kLongRope: divisors of the head_dim / 2 frequencies, up to trained_length and beyond it.
  std::vector<double> short_factors = {}, long_factors = {};

  bool operator==(const RotaryOptions&) const = default;
};

// Cosines and sines of rotary position embedding, (length, head_dim / 2) each, fp32. Undefined
// tensors: positions are not rotated.
struct RotaryTable {
  at::Tensor cosines;
  at::Tensor sines;
};
// Frequencies and angles are rounded to fp32 as in `transformers`, whose weights were trained so:
// at position 4096 an exact angle would be up to 2e-4 away. `length` is that of the longest
// sequence, which kDynamic and kLongRope depend on. Throws c10::Error for options that contradict
// each other.
RotaryTable make_rotary_table(int64_t length, int64_t head_dim, const RotaryOptions& options);

// x (..., head_dim) by cosines and sines (..., head_dim / 2), broadcast over what they lack: the
// first half of a head turns against the second. Turns in fp32, whatever the type of x.
at::Tensor rotate(const at::Tensor& x, const RotaryTable& angles);

}  // namespace espalier
