#pragma once

#include <cstdint>
#include <vector>

#include <torch/torch.h>

#include "comm/communicator.h"
#include "data/images/image.h"
#include "data/shards/shard_dataset.h"
#include "models/image_tokenizer/image_tokenizer.h"
#include "trainer/run_observer.h"

namespace espalier {

// (B, 3, S, S) in [-1, 1] from 8-bit pictures of one size, and back.
torch::Tensor images_to_tensor(const std::vector<Image>& images);
std::vector<Image> tensor_to_images(const torch::Tensor& images);

// What the Y-shaped model reads of images, made once by the frozen tokenizer.
struct ImageCodes {
  torch::Tensor codes;      // (views, samples, positions, stages) int32
  torch::Tensor semantics;  // (views, samples, positions, channels) bf16, rows of unit size
};

// The views that augment training: as stored, mirrored, and both moved by a pixel. A mirrored
// picture keeps its group but not always its name ("left arrow").
constexpr int64_t kViews = 4;
constexpr bool is_mirrored(int64_t view) { return view == 1 || view == 3; }
torch::Tensor view_of(const torch::Tensor& images, int64_t view);

// Images through the frozen tokenizer, in batches. `views` from the first on.
// `on_batch`, where given, hears how many images of all views are done.
ImageCodes encode_images(ImageTokenizer& tokenizer, const torch::Tensor& images, int64_t views,
                         const std::function<void(int64_t done)>& on_batch = {});

// All samples of a set, work split over ranks; the result is the same on every rank. Collective.
ImageCodes encode_dataset(ImageTokenizer& tokenizer, const ShardDataset& data, Communicator& comm,
                          at::Device device, int64_t views, const WorkListener& on_work = {});

// Code vectors of the pixel stages, scaled so that their sums have about unit variance.
torch::Tensor scaled_codebooks(const ImageTokenizer& tokenizer);

// codes (.., stages) -> (stages, .., channels): sums of the code vectors of stages 0..s.
torch::Tensor sum_codes(const torch::Tensor& codebooks_SKC, const torch::Tensor& codes);

}  // namespace espalier
