#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "trainer/named/image_codes.h"
#include "trainer/named/image_split.h"

namespace espalier {

class NamedThings;
class ResidualImageTokenizer;

// A picture of a sample, and how it is looked at.
struct PictureView {
  int64_t sample = 0, picture = 0, view = 0;
};

// Images of one batch, on their way to a frozen image tokenizer.
struct ImageRows {
  at::Tensor pictures, views;  // (B) int64; rows of ImageSet::all_levels() where that is in memory
  at::Tensor levels;           // (B, 3, S, S) uint8, where they are still to be encoded
};

// The codes of the images of a split: made once and kept where the images are in memory, else made
// of each batch anew (two passes through the encoder for an epoch of one view, no memory).
class ImageInputs {
 public:
  ImageInputs() = default;
  // `views` > 1: batches may ask for any of that many views of an image.
  ImageInputs(NamedThings& things, const std::string& tokenizer, const std::string& data,
              const std::string& split, int64_t views);

  ImageRows rows(const std::vector<PictureView>& pictures) const;
  // (B, positions, stages) and (B, positions, channels), on the device. Training thread.
  ImageCodes codes(const ImageRows& rows) const;

 private:
  NamedThings* things_ = nullptr;
  ResidualImageTokenizer* tokenizer_ = nullptr;
  const ImageSplit* images_ = nullptr;
  ImageCodes kept_;
};

}  // namespace espalier
