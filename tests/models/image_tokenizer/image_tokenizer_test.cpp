#include "models/image_tokenizer/image_tokenizer.h"

#include <gtest/gtest.h>

#include <ATen/ops/_fused_adamw.h>

#include "models/masked_autoencoder/masked_patches.h"
#include "models/weights/safetensors.h"

namespace espalier {
namespace {

// PyTorch's order of a convolution's weight to ours.
at::Tensor reordered(const at::Tensor& weight) {
  return weight.dim() == 4 ? weight.permute({0, 2, 3, 1}).contiguous() : weight;
}

// Written by tests/parity/dump_image_tokenizer.py with the reference in plain PyTorch.
class ImageTokenizerParity : public testing::Test {
 protected:
  ImageTokenizerParity()
      : golden_(read_safetensors(std::string(ESPALIER_SOURCE_DIR) +
                                 "/tests/parity/golden/image_tokenizer.safetensors")) {
    ImageTokenizerOptions options;
    options.latent_channels = 8;
    options.codebook_size = 16;
    options.pixel_stages = 3;
    options.semantic_stages = 2;
    options.width = 12;
    options.encoder_blocks = 2;
    options.decoder_blocks = 1;
    options.teacher_channels = 40;
    model_ = ImageTokenizer(options);
    masked_ = MaskedPatches(MaskedPatchesOptions{.positions = options.positions(),
                                                 .encoder_channels = options.encoder_channels(),
                                                 .width = 16,
                                                 .teacher_channels = options.teacher_channels,
                                                 .folds = options.folds});
    TensorMap weights, target;
    for (const auto& [name, tensor] : golden_) {
      if (name.starts_with("weights.")) weights[name.substr(8)] = reordered(tensor);
    }
    for (const auto& item : named_parameters()) target[item.first] = item.second;
    for (const auto& item : model_->named_buffers()) target[item.key()] = item.value();
    copy_tensors(weights, target, "image_tokenizer.safetensors");
    batch_.images = golden_.at("input.images");
    batch_.pixel_depth = golden_.at("input.pixel_depth");
    batch_.semantic_depth = golden_.at("input.semantic_depth");
    grid_ = make_visible_grid(golden_.at("input.visible"), options.latent_size);
    batch_.teacher = golden_.at("input.teacher");
  }

  // The reference is one module; here the masked pass is another, over the same encoder.
  TensorMap named_parameters() const {
    TensorMap all;
    for (const auto& item : model_->named_parameters()) all[item.key()] = item.value();
    for (const auto& item : masked_->named_parameters()) all[item.key()] = item.value();
    return all;
  }

  struct Losses {
    TokenizerLosses tokenizer;
    MaskedPatchesLosses masked;
  };
  Losses losses() {
    const TokenizerLosses tokenizer = model_->losses(batch_);
    return {tokenizer, masked_->losses(model_->encoder, tokenizer.patches, grid_, batch_.teacher)};
  }
  at::Tensor total(const Losses& losses) const {
    const auto& [tokenizer, masked] = losses;
    const int64_t stages = model_->options().stages(), latents = tokenizer.latents.numel();
    const int64_t images = batch_.images.size(0), keep = grid_.visible.size(1);
    return tokenizer.pixel / batch_.images.numel() +
           tokenizer.commitment * .25 / (stages * latents) +
           tokenizer.semantic * .1 / (images * 16) + masked.mimic * .05 / (images * keep) +
           masked.reconstruct / (images * (64 - keep) * 48);
  }

  void expect_close(const at::Tensor& got, const std::string& name) const {
    const at::Tensor expected = reordered(golden_.at(name));
    EXPECT_TRUE(torch::allclose(got, expected, 1e-4, 1e-6))
        << name << ": off by " << (got - expected).abs().max().item<double>() << " of "
        << expected.abs().max().item<double>();
  }

  TensorMap golden_;
  ImageTokenizer model_{nullptr};
  MaskedPatches masked_{nullptr};
  TokenizerBatch batch_;
  VisibleGrid grid_;
};

TEST_F(ImageTokenizerParity, LossesCodesAndEveryGradientAreThoseOfTheReference) {
  const Losses got = losses();
  EXPECT_TRUE(torch::equal(got.tokenizer.quantized.codes, golden_.at("codes")));
  EXPECT_TRUE(torch::equal(model_->encode(batch_.images).flatten(0, 1), golden_.at("codes")));
  expect_close(got.tokenizer.pixel, "loss.pixel");
  expect_close(got.tokenizer.commitment, "loss.commitment");
  expect_close(got.tokenizer.semantic, "loss.semantic");
  expect_close(got.masked.mimic, "loss.mimic");
  expect_close(got.masked.reconstruct, "loss.reconstruct");
  total(got).backward();
  for (const auto& [name, parameter] : named_parameters()) {
    ASSERT_TRUE(parameter.grad().defined()) << name;
    expect_close(parameter.grad(), "grad." + name);
  }
}

TEST_F(ImageTokenizerParity, TenStepsOfTrainingFollowTheReference) {
  std::vector<at::Tensor> parameters, means, squares, largest, steps;
  for (const auto& item : named_parameters()) parameters.push_back(item.second);
  for (const at::Tensor& parameter : parameters) {
    means.push_back(torch::zeros_like(parameter));
    squares.push_back(torch::zeros_like(parameter));
    steps.push_back(torch::zeros({}));
  }
  const float* curve = golden_.at("curve").const_data_ptr<float>();
  for (int step = 0; step < 10; ++step) {
    for (const at::Tensor& parameter : parameters) parameter.mutable_grad().reset();
    const Losses got = losses();
    const at::Tensor loss = total(got);
    loss.backward();
    EXPECT_NEAR(loss.item<double>(), curve[step], 1e-4 * curve[step]) << "step " << step;
    const torch::NoGradGuard no_gradient;
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& parameter : parameters) gradients.push_back(parameter.grad());
    for (const at::Tensor& count : steps) count.add_(1);
    at::_fused_adamw_(parameters, gradients, means, squares, largest, steps, 1e-3, 0.9, 0.95, 0.05,
                      1e-8, false, false);
    at::Tensor statistics = model_->quantizer->new_statistics();
    model_->quantizer->add_statistics(got.tokenizer.latents, got.tokenizer.quantized,
                                      golden_.at("input.candidate_rows"), statistics);
    model_->quantizer->update(statistics);
    if (step == 0) {
      expect_close(model_->quantizer->codebooks, "updated.codebooks");
      expect_close(model_->quantizer->counts, "updated.counts");
      expect_close(model_->quantizer->averages, "updated.averages");
    }
  }
}

TEST_F(ImageTokenizerParity, PixelsComeFromThePixelStagesOnly) {
  const at::Tensor codes = model_->encode(batch_.images);
  at::Tensor other = codes.clone();
  other.slice(2, model_->options().pixel_stages).zero_();
  EXPECT_TRUE(torch::equal(model_->decode_pixels(codes), model_->decode_pixels(other)));
  EXPECT_FALSE(torch::equal(model_->semantic(codes), model_->semantic(other)));
  EXPECT_EQ(model_->decode_pixels(codes).sizes(), batch_.images.sizes());
  EXPECT_EQ(model_->semantic(codes).sizes(), (std::vector<int64_t>{3, 64, 24}));
  EXPECT_EQ(model_->embed(codes, 5).sizes(), (std::vector<int64_t>{3, 64, 8}));
}

TEST(ImageLayout, PatchesHoldThePixelsOfTheirPlaceAndGiveTheImageBack) {
  torch::manual_seed(5);
  const at::Tensor images = torch::rand({2, 3, 16, 16});
  const at::Tensor patches = image_to_patches(images);
  EXPECT_TRUE(torch::equal(cells_to_image(patches_to_cells(patches)), images));
  // Patch 5 of a 4 x 4 grid: rows 4..7, columns 4..7; its last three values are the last pixel.
  EXPECT_TRUE(torch::equal(patches[1][5].slice(0, 45), images[1].select(1, 7).select(1, 7)));
}

}  // namespace
}  // namespace espalier
