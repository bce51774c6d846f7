#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace espalier {

// A frozen network whose features others learn to imitate. One implementation per architecture in
// this folder. Features may be kept on disk, so they must depend on the weights and the levels
// only.
class Teacher {
 public:
  Teacher() = default;
  Teacher(const Teacher&) = delete;
  Teacher& operator=(const Teacher&) = delete;
  virtual ~Teacher() = default;

  // Of the architecture, with its version if it has several. Part of the key of kept features.
  virtual std::string name() const = 0;
  virtual int64_t stride() const = 0;    // pixels per position and side; divides the image size
  virtual int64_t channels() const = 0;  // of the features at a position

  // RGB levels 0..255 of any type, (B, 3, S, S) -> fp32 (B, (S / stride)^2, channels), positions
  // row by row. Centring and scaling of the levels, which each architecture wants in its own way,
  // happen inside. No gradient. Throws c10::Error when the stride does not divide S.
  // They are computed, and returned, where the weights are.
  virtual at::Tensor features(const at::Tensor& levels) const = 0;

  // Moves the weights.
  virtual void to(at::Device device) = 0;
};

}  // namespace espalier
