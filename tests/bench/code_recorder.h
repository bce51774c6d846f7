#pragma once

#include <cstdint>
#include <string>

#include "models/weights/safetensors.h"
#include "trainer/named/named_things.h"
#include "trainer/stage.h"

namespace espalier {

// Which codes this rank's slots choose while a tokenizer trains, for a peer that is to choose the
// same: where two codes are about equally near, rounding decides, and the two sides round
// differently. Records nothing of other stages.
//
// The codes are computed beside the training, by the forward pass that the objective is about to
// run, on the same weights and in the same precision: so they are the same, and the product need
// not hand them out.
class CodeRecorder {
 public:
  CodeRecorder(NamedThings& things, Stage& stage) : things_(things), stage_(stage) {}

  // Right before the step loop trains this step.
  void before_step(int64_t step);
  // "codes.STEP.SLOT" (rows, stages) int32.
  void write(const std::string& path) const;

 private:
  NamedThings& things_;
  Stage& stage_;
  TensorMap codes_;
};

}  // namespace espalier
