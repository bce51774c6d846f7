#include "trainer/named/image_set.h"

#include <algorithm>

#include <torch/torch.h>

#include "trainer/named/spread_indices.h"

namespace espalier {

at::Tensor levels_to_values(const at::Tensor& levels) {
  return levels.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).div_(127.5).sub_(1.0);
}

at::Tensor ImageSet::values() const { return levels_to_values(levels); }

at::Tensor ImageSet::all_levels() const {
  return further.defined() ? at::cat({levels, further}) : levels;
}

int64_t ImageSet::row_of(int64_t sample, int64_t picture) const {
  TORCH_CHECK(picture >= 0 && picture < samples.at(static_cast<size_t>(sample)).pictures, "sample ",
              sample, " has no picture ", picture);
  if (picture == 0) return sample;
  return size() + first_further[static_cast<size_t>(sample)] + picture - 1;
}

ImageSet ImageSet::select(const std::vector<int64_t>& indices) const {
  ImageSet chosen;
  chosen.levels = levels.index_select(0, torch::tensor(indices, at::kLong));
  std::vector<int64_t> others;
  for (const int64_t i : indices) {
    const Sample& sample = samples[static_cast<size_t>(i)];
    chosen.samples.push_back(sample);
    if (!further.defined()) continue;
    const int64_t first = first_further[static_cast<size_t>(i)];
    chosen.first_further.push_back(std::ssize(others));
    for (int64_t k = 0; k + 1 < sample.pictures; ++k) others.push_back(first + k);
  }
  if (further.defined()) {
    chosen.further = further.index_select(0, torch::tensor(others, at::kLong));
  }
  chosen.fingerprint = fingerprint + "-" + std::to_string(indices.size());
  return chosen;
}

at::Tensor levels_of(const Image& image) {
  const at::Tensor pixels = torch::from_blob(const_cast<uint8_t*>(image.rgb.data()),
                                             {image.height, image.width, 3}, at::kByte);
  return pixels.permute({2, 0, 1}).contiguous();
}

ImageSet read_image_set(const Dataset& dataset, int64_t side, int64_t at_most) {
  ImageSet set;
  const std::vector<int64_t> indices = spread_indices(at_most, dataset.size());
  const auto count = static_cast<int64_t>(indices.size());
  set.fingerprint = dataset.fingerprint();
  if (count < dataset.size()) set.fingerprint += "-" + std::to_string(count);
  set.levels = at::empty({count, 3, side, side}, at::kByte);
  std::vector<at::Tensor> further;
  for (int64_t i = 0; i < count; ++i) {
    Sample sample = dataset.get(indices[static_cast<size_t>(i)]);
    set.levels[i].copy_(levels_of(sample.image));
    set.first_further.push_back(std::ssize(further));
    for (const Image& image : sample.further) further.push_back(levels_of(image));
    sample.image = {};
    sample.further.clear();
    set.samples.push_back(std::move(sample));
  }
  if (further.empty()) {
    set.first_further.clear();
  } else {
    set.further = at::stack(further);
  }
  return set;
}

at::Tensor images_to_tensor(const std::vector<Image>& images) {
  TORCH_CHECK(!images.empty(), "no images");
  const int64_t height = images[0].height;
  const int64_t width = images[0].width;
  const at::Tensor all =
      torch::empty({static_cast<int64_t>(images.size()), height, width, 3}, at::kByte);
  for (size_t i = 0; i < images.size(); ++i) {
    TORCH_CHECK(images[i].height == height && images[i].width == width, "images of one size");
    std::copy(images[i].rgb.begin(), images[i].rgb.end(),
              all[static_cast<int64_t>(i)].data_ptr<uint8_t>());
  }
  return levels_to_values(all.permute({0, 3, 1, 2}).contiguous());
}

std::vector<Image> tensor_to_images(const at::Tensor& images) {
  const at::Tensor bytes = ((images.to(at::kCPU, at::kFloat) + 1.0) * 127.5)
                               .round()
                               .clamp(0, 255)
                               .to(at::kByte)
                               .permute({0, 2, 3, 1})
                               .contiguous();
  std::vector<Image> result;
  const int64_t size = bytes.size(1) * bytes.size(2) * 3;
  for (int64_t i = 0; i < bytes.size(0); ++i) {
    const uint8_t* from = bytes.data_ptr<uint8_t>() + i * size;
    result.push_back({static_cast<int>(bytes.size(2)), static_cast<int>(bytes.size(1)),
                      std::vector<uint8_t>(from, from + size)});
  }
  return result;
}

}  // namespace espalier
