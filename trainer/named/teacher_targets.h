#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "models/teachers/teacher.h"

namespace espalier {

class NamedThings;
class ResidualImageTokenizer;

// What a frozen teacher sees in the images of a split: looked up where they are in memory, else
// asked of the network for each batch, which costs a forward pass of it. Always less the mean over
// training images: over all of them, or over an evenly spread part of as many as memory takes.
class TeacherTargets {
 public:
  TeacherTargets() = default;  // no teacher
  TeacherTargets(NamedThings& things, const ResidualImageTokenizer& model,
                 const std::string& teacher, const std::string& data, const std::string& split,
                 bool mirrored);

  bool is_there() const { return features_.defined() || network_ != nullptr; }
  const at::Tensor& mean() const { return mean_; }  // (C); of the training split only

  // Fills row (positions, C) of a batch; `mean` (C) is that of the training split. Prefetch thread.
  void load(int64_t image, bool is_mirrored, const at::Tensor& mean, at::Tensor row) const;
  // (B, positions, C) bf16 on the device, from what load() filled, or from `images` (B, 3, S, S) in
  // [-1, 1] as the model sees them.
  at::Tensor of(const at::Tensor& loaded, const at::Tensor& images, const at::Tensor& mean) const;

 private:
  at::Tensor features_;               // (N, views, positions, C), or undefined
  bool is_centred_ = false;           // they are less the mean already
  const Teacher* network_ = nullptr;  // where there are no features
  int64_t side_ = 0;
  at::Tensor mean_;
};

}  // namespace espalier
