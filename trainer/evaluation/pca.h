#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

// Principal components as an image codec of one byte a component: the mean of the training images
// and their `count` directions of most variance, known to both sides, and per image `count`
// coefficients in 256 equal levels between the least and the most that training images have.
class PcaCodec {
 public:
  // `training` is (N, ...) of values in [-1, 1]. At most as many components as there are images or
  // values in one. Components are found by block power iteration from a fixed start, cheaper than
  // all eigenvectors and the same at every call.
  PcaCodec(const at::Tensor& training, int64_t count);

  int64_t bytes_per_image() const { return components_.size(1); }

  // What comes back of images, in their shape, fp32 in [-1, 1].
  at::Tensor reconstruct(const at::Tensor& images) const;

 private:
  at::Tensor mean_;        // (D)
  at::Tensor components_;  // (D, count), orthonormal, most variance first
  at::Tensor low_, step_;  // (count): the levels of each coefficient
};

}  // namespace espalier
