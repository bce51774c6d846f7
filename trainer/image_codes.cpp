#include "trainer/image_codes.h"

#include <algorithm>
#include <cmath>

#include "trainer/host/collective_text.h"

namespace espalier {
namespace {

constexpr int64_t kBatch = 64;

// Size carries no meaning in a space that a cosine loss shaped.
torch::Tensor unit_rows(const torch::Tensor& x) {
  return x * torch::rsqrt(x.pow(2).mean(-1, true) + 1e-6);
}

}  // namespace

torch::Tensor images_to_tensor(const std::vector<Image>& images) {
  TORCH_CHECK(!images.empty(), "no images");
  const int64_t height = images[0].height;
  const int64_t width = images[0].width;
  torch::Tensor all =
      torch::empty({static_cast<int64_t>(images.size()), height, width, 3}, torch::kUInt8);
  for (size_t i = 0; i < images.size(); ++i) {
    TORCH_CHECK(images[i].height == height && images[i].width == width, "images of one size");
    std::copy(images[i].rgb.begin(), images[i].rgb.end(),
              all[static_cast<int64_t>(i)].data_ptr<uint8_t>());
  }
  return all.permute({0, 3, 1, 2}).to(torch::kFloat).contiguous() / 127.5 - 1.0;
}

std::vector<Image> tensor_to_images(const torch::Tensor& images) {
  const torch::Tensor bytes = ((images.to(torch::kCPU, torch::kFloat) + 1.0) * 127.5)
                                  .round()
                                  .clamp(0, 255)
                                  .to(torch::kUInt8)
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

torch::Tensor view_of(const torch::Tensor& images, int64_t view) {
  torch::Tensor x = is_mirrored(view) ? images.flip(3) : images;
  if (view < 2) return x;
  // One pixel down and right, white coming in.
  x = at::constant_pad_nd(x, {1, 0, 1, 0}, 1.0);
  return x.narrow(2, 0, images.size(2)).narrow(3, 0, images.size(3)).contiguous();
}

ImageCodes encode_images(ImageTokenizer& tokenizer, const torch::Tensor& images, int64_t views,
                         const std::function<void(int64_t done)>& on_batch) {
  const torch::NoGradGuard no_grad;
  const bool was_training = tokenizer->is_training();
  tokenizer->eval();
  std::vector<torch::Tensor> codes, semantics;
  int64_t done = 0;
  for (int64_t view = 0; view < views; ++view) {
    std::vector<torch::Tensor> view_codes, view_semantics;
    for (const auto& batch : images.split(kBatch)) {
      view_codes.push_back(tokenizer->encode(view_of(batch, view)));
      view_semantics.push_back(
          unit_rows(tokenizer->semantic(view_codes.back()).to(torch::kFloat)).to(torch::kBFloat16));
      view_codes.back() = view_codes.back().to(torch::kInt);
      done += batch.size(0);
      if (on_batch) on_batch(done);
    }
    codes.push_back(torch::cat(view_codes));
    semantics.push_back(torch::cat(view_semantics));
  }
  tokenizer->train(was_training);
  return {torch::stack(codes), torch::stack(semantics)};
}

ImageCodes encode_dataset(ImageTokenizer& tokenizer, const ShardDataset& data, Communicator& comm,
                          at::Device device, int64_t views, const WorkListener& on_work) {
  // Equal parts for every rank, the last ones filled up with the last sample.
  const int64_t part = (data.size() + comm.size() - 1) / comm.size();
  std::vector<Image> images;
  for (int64_t i = 0; i < part; ++i) {
    images.push_back(data.get(std::min(data.size() - 1, comm.rank() * part + i)).image);
  }
  const int64_t total = data.size() * views;
  const ImageCodes mine =
      encode_images(tokenizer, images_to_tensor(images).to(device), views, [&](int64_t done) {
        if (on_work) on_work({"image codes", std::min(total, done * comm.size()), total});
      });
  const auto gather = [&](const torch::Tensor& of_rank, at::ScalarType type) {
    // float carries codes (< 2^24) and bfloat16 exactly, and every backend moves it.
    const torch::Tensor input = of_rank.to(communication_device(comm), torch::kFloat).contiguous();
    std::vector<int64_t> sizes = input.sizes().vec();
    sizes.insert(sizes.begin(), comm.size());
    const torch::Tensor all = torch::empty(sizes, input.options());
    comm.all_gather(input, all)->wait();
    // (ranks, views, part, ..) -> (views, samples, ..)
    return all.transpose(0, 1)
        .flatten(1, 2)
        .narrow(1, 0, data.size())
        .to(device, type)
        .contiguous();
  };
  return {gather(mine.codes, torch::kInt), gather(mine.semantics, torch::kBFloat16)};
}

torch::Tensor scaled_codebooks(const ImageTokenizer& tokenizer) {
  const torch::Tensor books =
      tokenizer->codebooks().narrow(0, 0, tokenizer->options().pixel_stages).to(torch::kFloat);
  // Stages are about independent: variances add up.
  const double variance = books.pow(2).mean({1, 2}).sum().item<double>();
  return books / std::sqrt(std::max(variance, 1e-12));
}

torch::Tensor sum_codes(const torch::Tensor& codebooks, const torch::Tensor& codes) {
  std::vector<torch::Tensor> sums;
  std::vector<int64_t> sizes = codes.sizes().vec();
  sizes.back() = codebooks.size(2);
  for (int64_t stage = 0; stage < codebooks.size(0); ++stage) {
    const torch::Tensor vectors =
        codebooks[stage]
            .index_select(0, codes.select(-1, stage).to(torch::kLong).flatten())
            .view(sizes);
    sums.push_back(sums.empty() ? vectors : sums.back() + vectors);
  }
  return torch::stack(sums);
}

}  // namespace espalier
