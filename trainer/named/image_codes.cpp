#include "trainer/named/image_codes.h"

#include <algorithm>
#include <cmath>

#include "trainer/host/collective_text.h"
#include "trainer/named/picture_semantics.h"

namespace espalier {
namespace {

constexpr int64_t kBatch = 64;

}  // namespace

at::Tensor view_of(const at::Tensor& images, int64_t view) {
  at::Tensor x = is_mirrored(view) ? images.flip(3) : images;
  if (view < 2) return x;
  // One pixel down and right, white coming in.
  x = at::constant_pad_nd(x, {1, 0, 1, 0}, 1.0);
  return x.narrow(2, 0, images.size(2)).narrow(3, 0, images.size(3)).contiguous();
}

ImageCodes encode_images(ImageTokenizer& tokenizer, const at::Tensor& images, int64_t views,
                         const std::function<void(int64_t done)>& on_batch) {
  const torch::NoGradGuard no_grad;
  const bool was_training = tokenizer->is_training();
  tokenizer->eval();
  std::vector<at::Tensor> codes, semantics;
  int64_t done = 0;
  for (int64_t view = 0; view < views; ++view) {
    std::vector<at::Tensor> view_codes, view_semantics;
    for (const auto& batch : images.split(kBatch)) {
      view_codes.push_back(tokenizer->encode(view_of(batch, view)));
      view_semantics.push_back(picture_semantics(tokenizer, view_codes.back()));
      view_codes.back() = view_codes.back().to(at::kInt);
      done += batch.size(0);
      if (on_batch) on_batch(done);
    }
    codes.push_back(torch::cat(view_codes));
    semantics.push_back(torch::cat(view_semantics));
  }
  tokenizer->train(was_training);
  return {torch::stack(codes), torch::stack(semantics)};
}

ImageCodes encode_image_set(ImageTokenizer& tokenizer, const at::Tensor& levels, Communicator& comm,
                            at::Device device, int64_t views, const WorkListener& on_work) {
  // Equal parts for every rank, the last ones filled up with the last sample.
  const int64_t size = levels.size(0), part = (size + comm.size() - 1) / comm.size();
  const at::Tensor rows = (at::arange(part, at::kLong) + comm.rank() * part).clamp_max(size - 1);
  const at::Tensor images = levels_to_values(levels.index_select(0, rows)).to(device);
  const int64_t total = size * views;
  const ImageCodes mine = encode_images(tokenizer, images, views, [&](int64_t done) {
    if (on_work) on_work({"image codes", std::min(total, done * comm.size()), total});
  });
  const auto gather = [&](const at::Tensor& of_rank, at::ScalarType type) {
    // float carries codes (< 2^24) and bfloat16 exactly, and every backend moves it.
    const at::Tensor input = of_rank.to(communication_device(comm), at::kFloat).contiguous();
    std::vector<int64_t> sizes = input.sizes().vec();
    sizes.insert(sizes.begin(), comm.size());
    const at::Tensor all = torch::empty(sizes, input.options());
    comm.all_gather(input, all)->wait();
    // (ranks, views, part, ..) -> (views, samples, ..)
    return all.transpose(0, 1).flatten(1, 2).narrow(1, 0, size).to(device, type).contiguous();
  };
  return {gather(mine.codes, at::kInt), gather(mine.semantics, at::kBFloat16)};
}

at::Tensor scaled_codebooks(const ImageTokenizer& tokenizer) {
  const at::Tensor books =
      tokenizer->codebooks().narrow(0, 0, tokenizer->options().pixel_stages).to(at::kFloat);
  // Stages are about independent: variances add up.
  const double variance = books.pow(2).mean({1, 2}).sum().item<double>();
  return books / std::sqrt(std::max(variance, 1e-12));
}

at::Tensor sum_codes(const at::Tensor& codebooks, const at::Tensor& codes) {
  std::vector<at::Tensor> sums;
  std::vector<int64_t> sizes = codes.sizes().vec();
  sizes.back() = codebooks.size(2);
  for (int64_t stage = 0; stage < codebooks.size(0); ++stage) {
    const at::Tensor vectors = codebooks[stage]
                                   .index_select(0, codes.select(-1, stage).to(at::kLong).flatten())
                                   .view(sizes);
    sums.push_back(sums.empty() ? vectors : sums.back() + vectors);
  }
  return torch::stack(sums);
}

}  // namespace espalier
