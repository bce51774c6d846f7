#include "trainer/named/image_split.h"

#include <algorithm>

#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include "data/errors.h"
#include "data/order/sample_order.h"

namespace espalier {

ImageSplit::ImageSplit(const ImageSet* in_memory, const Dataset* on_disk, const DataConfig& config)
    : in_memory_(in_memory),
      on_disk_(on_disk),
      image_size_(config.image_size),
      window_(config.shuffle_window),
      skips_bad_(config.on_bad_sample == "skip") {}

int64_t ImageSplit::size() const {
  return in_memory_ != nullptr ? in_memory_->size() : on_disk_->size();
}

const std::string& ImageSplit::fingerprint() const {
  return in_memory_ != nullptr ? in_memory_->fingerprint : on_disk_->fingerprint();
}

int64_t ImageSplit::sample_at(uint64_t order_seed, int64_t position) const {
  return windowed_sample_at(order_seed, position, size(), window_);
}

Sample ImageSplit::describe(int64_t index) const {
  if (in_memory_ != nullptr) return in_memory_->samples[static_cast<size_t>(index)];
  return on_disk_->describe(index);
}

at::Tensor ImageSplit::levels(int64_t index) const {
  return in_memory_ != nullptr ? in_memory_->levels[index] : levels(index, {0})[0];
}

// A picture that turns out to be damaged where only its header was checked: an error, or another
// one in its place, the same on every rank.
at::Tensor ImageSplit::levels(int64_t index, const std::vector<int64_t>& pictures) const {
  std::vector<at::Tensor> levels;
  if (in_memory_ != nullptr) {
    for (const int64_t picture : pictures) {
      const int64_t row = in_memory_->row_of(index, picture);
      levels.push_back(picture == 0 ? in_memory_->levels[row]
                                    : in_memory_->further[row - in_memory_->size()]);
    }
    return at::stack(levels);
  }
  constexpr int kTries = 16;
  for (int attempt = 0;; ++attempt) {
    try {
      const Sample sample = on_disk_->get((index + attempt) % size());
      for (const int64_t picture : pictures) {
        const auto other = std::min(static_cast<size_t>(picture), sample.further.size());
        levels.push_back(levels_of(other == 0 ? sample.image : sample.further[other - 1]));
      }
      return at::stack(levels);
    } catch (const DataError& error) {
      if (!skips_bad_ || attempt == kTries) throw;
      spdlog::warn("{}; the next picture is shown in its place", error.what());
      levels.clear();
    }
  }
}

}  // namespace espalier
