#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "models/teachers/teacher.h"

namespace espalier {

class NamedThings;
class ResidualImageTokenizer;

// What a frozen teacher sees in training images: looked up where the images are in memory, else
// asked of the network for each batch, which costs a forward pass of it. Less the mean over
// training images either way: over all of them, or over an evenly spread part of as many as memory
// takes.
class TeacherTargets {
 public:
  TeacherTargets() = default;  // no teacher
  TeacherTargets(NamedThings& things, const ResidualImageTokenizer& model,
                 const std::string& teacher, const std::string& data, bool mirrored);

  bool is_there() const { return mean_.defined(); }
  const at::Tensor& mean() const { return mean_; }  // (C), over training images

  // Fills row (positions, C) of a batch. Prefetch thread.
  void load(int64_t image, bool is_mirrored, at::Tensor row) const;
  // (B, positions, C) bf16 on the device, from what load() filled, or from `images` (B, 3, S, S) in
  // [-1, 1] as the model sees them.
  at::Tensor of(const at::Tensor& loaded, const at::Tensor& images) const;

 private:
  at::Tensor features_;                 // (N, views, positions, C), or undefined
  const Teacher* network_ = nullptr;  // where they are not
  int64_t side_ = 0;
  at::Tensor mean_;
};

}  // namespace espalier
