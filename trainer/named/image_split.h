#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/sources/dataset.h"
#include "trainer/config/run_config.h"
#include "trainer/named/image_set.h"

namespace espalier {

// A split as objectives go through it: from memory where its pictures fit (data.NAME.memory_mib),
// else each read from disk when its turn comes. Any thread may call.
class ImageSplit {
 public:
  // Of two, the one that is not null. Both outlive this.
  ImageSplit(const ImageSet* in_memory, const Dataset* on_disk, const DataConfig& config);

  int64_t size() const;
  const std::string& fingerprint() const;
  bool is_in_memory() const { return in_memory_ != nullptr; }

  // The sample at a position of the endless stream that `order_seed` names: every epoch a
  // permutation; in windows of data.NAME.shuffle_window samples where there is such.
  int64_t sample_at(uint64_t order_seed, int64_t position) const;

  Sample describe(int64_t index) const;    // without its pictures
  at::Tensor levels(int64_t index) const;  // (3, S, S) uint8: its first picture
  // Those pictures of a sample, (n, 3, S, S) uint8.
  at::Tensor levels(int64_t index, const std::vector<int64_t>& pictures) const;
  // Of a split in memory.
  const ImageSet& in_memory() const { return *in_memory_; }

 private:
  const ImageSet* in_memory_;
  const Dataset* on_disk_;
  int64_t image_size_, window_;
  bool skips_bad_;
};

}  // namespace espalier
