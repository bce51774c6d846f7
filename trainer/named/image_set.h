#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/images/image.h"
#include "data/sample.h"
#include "data/sources/dataset.h"

namespace espalier {

// Samples of one split of a data set, in memory.
struct ImageSet {
  at::Tensor levels;            // (N, 3, S, S) uint8: the first picture of each
  std::vector<Sample> samples;  // without their pictures
  std::string fingerprint;
  // Where samples have several pictures: the others, (F, 3, S, S), sample after sample, and where
  // those of a sample begin. Else undefined, and empty.
  at::Tensor further;
  std::vector<int64_t> first_further;

  int64_t size() const { return static_cast<int64_t>(samples.size()); }
  at::Tensor values() const;  // (N, 3, S, S) fp32 in [-1, 1]
  // Every picture: levels, then the others; and which row of it a picture is.
  at::Tensor all_levels() const;
  int64_t row_of(int64_t sample, int64_t picture) const;
  // The samples at `indices`.
  ImageSet select(const std::vector<int64_t>& indices) const;
};

// Samples of a data set whose pictures have `side` pixels a side: `at_most` of them, evenly spread;
// 0 = all. DataError names what cannot be read.
ImageSet read_image_set(const Dataset& dataset, int64_t side, int64_t at_most = 0);

at::Tensor levels_of(const Image& image);  // (3, height, width) uint8
// Levels 0..255 of any type -> fp32 in [-1, 1].
at::Tensor levels_to_values(const at::Tensor& levels);

// (B, 3, S, S) in [-1, 1] from 8-bit pictures of one size, and back.
at::Tensor images_to_tensor(const std::vector<Image>& images);
std::vector<Image> tensor_to_images(const at::Tensor& images);

}  // namespace espalier
