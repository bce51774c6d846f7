#include "trainer/named/image_set.h"

#include <algorithm>

#include <torch/torch.h>

#include "data/shards/shard_dataset.h"

namespace espalier {

at::Tensor levels_to_values(const at::Tensor& levels) {
  return levels.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).div_(127.5).sub_(1.0);
}

at::Tensor ImageSet::values() const { return levels_to_values(levels); }

ImageSet ImageSet::select(const std::vector<int64_t>& indices) const {
  ImageSet chosen;
  chosen.levels = levels.index_select(0, torch::tensor(indices, at::kLong));
  for (const int64_t i : indices) chosen.samples.push_back(samples[static_cast<size_t>(i)]);
  chosen.fingerprint = fingerprint + "-" + std::to_string(indices.size());
  return chosen;
}

ImageSet read_image_set(const DataConfig& data, const std::vector<std::string>& shards,
                        const std::vector<std::string>& fields) {
  const ShardDataset dataset(shards, {.skip_bad_samples = data.on_bad_sample == "skip",
                                      .image_size = static_cast<int>(data.image_size),
                                      .required_fields = fields});
  ImageSet set;
  set.fingerprint = dataset.fingerprint();
  const int64_t side = data.image_size;
  set.levels = at::empty({dataset.size(), 3, side, side}, at::kByte);
  for (int64_t i = 0; i < dataset.size(); ++i) {
    Sample sample = dataset.get(i);
    const at::Tensor picture =
        torch::from_blob(sample.image.rgb.data(), {side, side, 3}, at::kByte);
    set.levels[i].copy_(picture.permute({2, 0, 1}));
    sample.image = {};
    set.samples.push_back(std::move(sample));
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
