#pragma once

#include <cstdint>

#include "data/order/random.h"
#include "trainer/named/image_codes.h"
#include "trainer/update/step_plan.h"

namespace espalier {

// What is random about the samples of a slot of text and image codes: a function of the seed and
// the slot alone. Every objective of such a slot draws both numbers for each sample, used or not.
class SlotDraws {
 public:
  SlotDraws(uint64_t seed, const Turn& turn)
      : random_(seed, combine_streams(kStream, static_cast<uint64_t>(turn.slot_number))) {
    for (int64_t i = 0; i < turn.skipped; ++i) next();
  }

  struct Sample {
    int64_t view = 0;    // 0 .. kViews-1: how the image is shown
    double dropout = 0;  // [0, 1): below its rate, the condition is dropped
  };
  Sample next() {
    const auto view = static_cast<int64_t>(random_.below(kViews));
    return {view, random_.uniform()};
  }

 private:
  static constexpr uint64_t kStream = 0x62617463;  // nothing else of a run uses it
  CounterRng random_;
};

}  // namespace espalier
