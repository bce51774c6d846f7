#pragma once

#include <cstdint>

#include "data/order/random.h"
#include "trainer/named/image_split.h"

namespace espalier {

// The image at a position of an endless stream, and whether it is shown mirrored. Objectives that
// train on the same slot see the same images the same way round.
struct StreamedImage {
  int64_t index = 0;
  bool mirrored = false;
  CounterRng random;  // goes on from here: whatever else is drawn for this image
};

inline StreamedImage image_at(uint64_t seed, uint64_t order_seed, int64_t position,
                              const ImageSplit& images, bool flip) {
  constexpr uint64_t kImageStream = 0x746f6b2d73616dULL;  // nothing else of a run uses it
  StreamedImage image{
      images.sample_at(order_seed, position), false,
      CounterRng(seed, combine_streams(kImageStream, static_cast<uint64_t>(position)))};
  image.mirrored = flip && image.random.uniform() < 0.5;
  return image;
}

}  // namespace espalier
