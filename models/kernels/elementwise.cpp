#include "models/kernels/elementwise.h"

#include <cmath>

namespace espalier::kernels {
namespace {

using simd::Floats;
using simd::kLanes;

template <class T>
ESPALIER_INLINE void norm_rows(const AddRmsNorm<T>& a, int64_t begin, int64_t end, int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = a.x + row * width;
    const T* delta = a.delta == nullptr ? nullptr : a.delta + row * width;
    float* sum = a.sum == nullptr ? nullptr : a.sum + row * width;
    T* out = a.out + row * width;
    Floats squares = {};
    float tail = 0;
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      Floats v = simd::load(x + i);
      if (delta != nullptr) v += simd::load(delta + i);
      if (sum != nullptr) simd::store(sum + i, v);
      squares += v * v;
    }
    for (; i < width; ++i) {
      float v = x[i];
      if (delta != nullptr) v += simd::load_one(delta + i);
      if (sum != nullptr) sum[i] = v;
      tail += v * v;
    }
    const float mean = (simd::sum(squares) + tail) / static_cast<float>(width);
    const float inverse = 1.0f / std::sqrt(mean + a.epsilon);
    a.inverse_rms[row] = inverse;
    const float* from = sum == nullptr ? x : sum;
    for (i = 0; i + kLanes <= width; i += kLanes) {
      simd::store(out + i, simd::load(from + i) * inverse * simd::load(a.weight + i));
    }
    for (; i < width; ++i) simd::store_one(out + i, from[i] * inverse * a.weight[i]);
  }
}

// With y = s * r * w and r = (mean s^2 + e)^-1/2:
// ds = r * (g*w - s * r^2 * mean(g*w*s)).
template <class T>
ESPALIER_INLINE void norm_rows_backward(const AddRmsNormBackward<T>& a, int64_t begin, int64_t end,
                                        int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = row * width;
    const float* s = a.sum + at;
    const T* g = a.grad_out + at;
    const float r = a.inverse_rms[row];
    Floats products = {};
    float tail = 0;
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      const Floats gs = simd::load(g + i) * simd::load(s + i);
      products += gs * simd::load(a.weight + i);
      simd::store(a.grad_weight + i, simd::load(a.grad_weight + i) + gs * r);
    }
    for (; i < width; ++i) {
      const float gs = simd::load_one(g + i) * s[i];
      tail += gs * a.weight[i];
      a.grad_weight[i] += gs * r;
    }
    const float mean = (simd::sum(products) + tail) / static_cast<float>(width);
    const float pull = r * r * r * mean;
    for (i = 0; i + kLanes <= width; i += kLanes) {
      Floats d = simd::load(g + i) * simd::load(a.weight + i) * r - simd::load(s + i) * pull;
      if (a.grad_sum != nullptr) d += simd::load(a.grad_sum + at + i);
      simd::store(a.grad_x + at + i, d);
      if (a.grad_delta != nullptr) simd::store(a.grad_delta + at + i, d);
    }
    for (; i < width; ++i) {
      float d = simd::load_one(g + i) * a.weight[i] * r - s[i] * pull;
      if (a.grad_sum != nullptr) d += a.grad_sum[at + i];
      a.grad_x[at + i] = d;
      if (a.grad_delta != nullptr) simd::store_one(a.grad_delta + at + i, d);
    }
  }
}

template <class T>
ESPALIER_INLINE void swiglu_rows(const T* gate_up, T* out, int64_t begin, int64_t end,
                                 int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = gate_up + row * 2 * width;
    const T* up = gate + width;
    T* to = out + row * width;
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      const Floats g = simd::load(gate + i);
      simd::store(to + i, g / (1.0f + simd::exp(-g)) * simd::load(up + i));
    }
    for (; i < width; ++i) {
      const float g = simd::load_one(gate + i);
      simd::store_one(to + i, g / (1.0f + std::exp(-g)) * simd::load_one(up + i));
    }
  }
}

template <class T>
ESPALIER_INLINE void swiglu_rows_backward(const T* gate_up, const T* grad_out, T* grad_gate_up,
                                          int64_t begin, int64_t end, int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = gate_up + row * 2 * width;
    const T* up = gate + width;
    const T* d = grad_out + row * width;
    T* grad_gate = grad_gate_up + row * 2 * width;
    T* grad_up = grad_gate + width;
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      const Floats g = simd::load(gate + i);
      const Floats go = simd::load(d + i);
      const Floats sigmoid = 1.0f / (1.0f + simd::exp(-g));
      const Floats silu = g * sigmoid;
      simd::store(grad_up + i, go * silu);
      simd::store(grad_gate + i, go * simd::load(up + i) * (sigmoid + silu * (1.0f - sigmoid)));
    }
    for (; i < width; ++i) {
      const float g = simd::load_one(gate + i);
      const float go = simd::load_one(d + i);
      const float sigmoid = 1.0f / (1.0f + std::exp(-g));
      const float silu = g * sigmoid;
      simd::store_one(grad_up + i, go * silu);
      simd::store_one(grad_gate + i,
                      go * simd::load_one(up + i) * (sigmoid + silu * (1.0f - sigmoid)));
    }
  }
}

template <class T>
ESPALIER_INLINE void cross_entropy_rows(const T* logits, const int64_t* targets, float* loss,
                                        T* grad, int64_t begin, int64_t end, int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = logits + row * width;
    Floats highest = simd::broadcast(simd::load_one(x));
    float top = simd::load_one(x);
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) highest = simd::max(highest, simd::load(x + i));
    for (; i < width; ++i) top = std::fmax(top, simd::load_one(x + i));
    for (int lane = 0; lane < kLanes; ++lane) top = std::fmax(top, highest[lane]);
    Floats sums = {};
    float total = 0;
    for (i = 0; i + kLanes <= width; i += kLanes) sums += simd::exp(simd::load(x + i) - top);
    for (; i < width; ++i) total += std::exp(simd::load_one(x + i) - top);
    total += simd::sum(sums);
    loss[row] = top + std::log(total) - simd::load_one(x + targets[row]);
    if (grad == nullptr) continue;
    T* g = grad + row * width;
    const float inverse = 1.0f / total;
    for (i = 0; i + kLanes <= width; i += kLanes) {
      simd::store(g + i, simd::exp(simd::load(x + i) - top) * inverse);
    }
    for (; i < width; ++i) simd::store_one(g + i, std::exp(simd::load_one(x + i) - top) * inverse);
    const float at_target = std::exp(simd::load_one(x + targets[row]) - top) * inverse;
    simd::store_one(g + targets[row], at_target - 1.0f);
  }
}

template <class T>
ESPALIER_INLINE void relu_gradient(T* gradient, const T* output, const T* addend, int64_t begin,
                                   int64_t end) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    const Floats kept = simd::load(output + i) > 0.0f ? simd::load(gradient + i) : Floats{};
    simd::store(gradient + i, addend == nullptr ? kept : kept + simd::load(addend + i));
  }
  for (; i < end; ++i) {
    const float kept = simd::load_one(output + i) > 0 ? simd::load_one(gradient + i) : 0;
    simd::store_one(gradient + i, addend == nullptr ? kept : kept + simd::load_one(addend + i));
  }
}

}  // namespace

ESPALIER_CLONES void add_rms_norm(const AddRmsNorm<float>& a, int64_t begin, int64_t end,
                                  int64_t width) {
  norm_rows(a, begin, end, width);
}
ESPALIER_CLONES void add_rms_norm(const AddRmsNorm<Bfloat16>& a, int64_t begin, int64_t end,
                                  int64_t width) {
  norm_rows(a, begin, end, width);
}
ESPALIER_CLONES void add_rms_norm_backward(const AddRmsNormBackward<float>& a, int64_t begin,
                                           int64_t end, int64_t width) {
  norm_rows_backward(a, begin, end, width);
}
ESPALIER_CLONES void add_rms_norm_backward(const AddRmsNormBackward<Bfloat16>& a, int64_t begin,
                                           int64_t end, int64_t width) {
  norm_rows_backward(a, begin, end, width);
}
ESPALIER_CLONES void swiglu(const float* gate_up, float* out, int64_t begin, int64_t end,
                            int64_t width) {
  swiglu_rows(gate_up, out, begin, end, width);
}
ESPALIER_CLONES void swiglu(const Bfloat16* gate_up, Bfloat16* out, int64_t begin, int64_t end,
                            int64_t width) {
  swiglu_rows(gate_up, out, begin, end, width);
}
ESPALIER_CLONES void swiglu_backward(const float* gate_up, const float* grad_out,
                                     float* grad_gate_up, int64_t begin, int64_t end,
                                     int64_t width) {
  swiglu_rows_backward(gate_up, grad_out, grad_gate_up, begin, end, width);
}
ESPALIER_CLONES void swiglu_backward(const Bfloat16* gate_up, const Bfloat16* grad_out,
                                     Bfloat16* grad_gate_up, int64_t begin, int64_t end,
                                     int64_t width) {
  swiglu_rows_backward(gate_up, grad_out, grad_gate_up, begin, end, width);
}
ESPALIER_CLONES void cross_entropy(const float* logits, const int64_t* targets, float* loss,
                                   float* grad, int64_t begin, int64_t end, int64_t width) {
  cross_entropy_rows(logits, targets, loss, grad, begin, end, width);
}
ESPALIER_CLONES void cross_entropy(const Bfloat16* logits, const int64_t* targets, float* loss,
                                   Bfloat16* grad, int64_t begin, int64_t end, int64_t width) {
  cross_entropy_rows(logits, targets, loss, grad, begin, end, width);
}

ESPALIER_CLONES void relu_backward(float* gradient, const float* output, const float* addend,
                                   int64_t begin, int64_t end) {
  relu_gradient(gradient, output, addend, begin, end);
}
ESPALIER_CLONES void relu_backward(Bfloat16* gradient, const Bfloat16* output,
                                   const Bfloat16* addend, int64_t begin, int64_t end) {
  relu_gradient(gradient, output, addend, begin, end);
}

}  // namespace espalier::kernels
