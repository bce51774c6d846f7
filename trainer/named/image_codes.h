#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "models/image_tokenizer/image_tokenizer.h"
#include "trainer/named/image_set.h"
#include "trainer/run_observer.h"

namespace espalier {

// What a decoder reads of images, made once by a frozen image tokenizer.
struct ImageCodes {
  at::Tensor codes;      // (views, samples, positions, stages) int32
  at::Tensor semantics;  // (views, samples, positions, channels) bf16, rows of unit size
};

// The views that augment training: as stored, mirrored, and both moved by a pixel. A mirrored
// picture keeps its group but not always its name ("left arrow").
constexpr int64_t kViews = 4;
constexpr bool is_mirrored(int64_t view) { return view == 1 || view == 3; }
at::Tensor view_of(const at::Tensor& images, int64_t view);  // (B, 3, S, S) in [-1, 1], and back

// Images through the frozen tokenizer, in batches. `views` from the first on.
// `on_batch`, where given, hears how many images of all views are done.
ImageCodes encode_images(ImageTokenizer& tokenizer, const at::Tensor& images, int64_t views,
                         const std::function<void(int64_t done)>& on_batch = {});

// All pictures of a set, (N, 3, S, S) uint8, work split over ranks; the result is the same on every
// rank. Collective.
ImageCodes encode_image_set(ImageTokenizer& tokenizer, const at::Tensor& levels, Communicator& comm,
                            at::Device device, int64_t views, const WorkListener& on_work = {});

// Code vectors of the pixel stages, scaled so that their sums have about unit variance:
// (stages, codes, channels).
at::Tensor scaled_codebooks(const ImageTokenizer& tokenizer);

// codes (.., stages) -> (stages, .., channels): sums of the code vectors of stages 0..s.
at::Tensor sum_codes(const at::Tensor& codebooks_SKC, const at::Tensor& codes);

}  // namespace espalier
