#include "models/image_tokenizer/image_tokenizer.h"

#include <gtest/gtest.h>

#include <ATen/ops/_fused_adamw.h>

#include "models/masked_autoencoder/masking.h"
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
    options.masked_width = 16;
    options.teacher_channels = 40;
    model_ = ImageTokenizer(options);
    TensorMap weights, target;
    for (const auto& [name, tensor] : golden_) {
      if (name.starts_with("weights.")) weights[name.substr(8)] = reordered(tensor);
    }
    for (const auto& item : model_->named_parameters()) target[item.key()] = item.value();
    for (const auto& item : model_->named_buffers()) target[item.key()] = item.value();
    copy_tensors(weights, target, "image_tokenizer.safetensors");
    batch_.images = golden_.at("input.images");
    batch_.pixel_depth = golden_.at("input.pixel_depth");
    batch_.semantic_depth = golden_.at("input.semantic_depth");
    batch_.grid = make_visible_grid(golden_.at("input.visible"), options.latent_size);
    batch_.teacher = golden_.at("input.teacher");
  }

  at::Tensor total(const TokenizerLosses& losses) const {
    const int64_t stages = model_->options().stages(), latents = losses.latents.numel();
    const int64_t images = batch_.images.size(0), keep = batch_.grid.visible.size(1);
    return losses.pixel / batch_.images.numel() + losses.commitment * .25 / (stages * latents) +
           losses.semantic * .1 / (images * 16) + losses.mimic * .05 / (images * keep) +
           losses.reconstruct / (images * (64 - keep) * 48);
  }

  void expect_close(const at::Tensor& got, const std::string& name) const {
    const at::Tensor expected = reordered(golden_.at(name));
    EXPECT_TRUE(torch::allclose(got, expected, 1e-4, 1e-6))
        << name << ": off by " << (got - expected).abs().max().item<double>() << " of "
        << expected.abs().max().item<double>();
  }

  TensorMap golden_;
  ImageTokenizer model_{nullptr};
  TokenizerBatch batch_;
};

TEST_F(ImageTokenizerParity, LossesCodesAndEveryGradientAreThoseOfTheReference) {
  const TokenizerLosses losses = model_->losses(batch_);
  EXPECT_TRUE(torch::equal(losses.quantized.codes, golden_.at("codes")));
  EXPECT_TRUE(torch::equal(model_->encode(batch_.images).flatten(0, 1), golden_.at("codes")));
  expect_close(losses.pixel, "loss.pixel");
  expect_close(losses.commitment, "loss.commitment");
  expect_close(losses.semantic, "loss.semantic");
  expect_close(losses.mimic, "loss.mimic");
  expect_close(losses.reconstruct, "loss.reconstruct");
  total(losses).backward();
  for (const auto& item : model_->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    expect_close(item.value().grad(), "grad." + item.key());
  }
}

TEST_F(ImageTokenizerParity, TenStepsOfTrainingFollowTheReference) {
  std::vector<at::Tensor> parameters = model_->parameters(), means, squares, largest, steps;
  for (const at::Tensor& parameter : parameters) {
    means.push_back(torch::zeros_like(parameter));
    squares.push_back(torch::zeros_like(parameter));
    steps.push_back(torch::zeros({}));
  }
  const float* curve = golden_.at("curve").const_data_ptr<float>();
  for (int step = 0; step < 10; ++step) {
    model_->zero_grad();
    const TokenizerLosses losses = model_->losses(batch_);
    const at::Tensor loss = total(losses);
    loss.backward();
    EXPECT_NEAR(loss.item<double>(), curve[step], 1e-4 * curve[step]) << "step " << step;
    const torch::NoGradGuard no_gradient;
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& parameter : parameters) gradients.push_back(parameter.grad());
    for (const at::Tensor& count : steps) count.add_(1);
    at::_fused_adamw_(parameters, gradients, means, squares, largest, steps, 1e-3, 0.9, 0.95, 0.05,
                      1e-8, false, false);
    at::Tensor statistics = model_->quantizer->new_statistics();
    model_->quantizer->add_statistics(losses.latents, losses.quantized,
                                      golden_.at("input.candidate_rows"), statistics);
    model_->quantizer->update(statistics);
    if (step == 0) {
      expect_close(model_->quantizer->codebooks, "updated.codebooks");
      expect_close(model_->quantizer->counts, "updated.counts");
      expect_close(model_->quantizer->averages, "updated.averages");
    }
  }
}

TEST_F(ImageTokenizerParity, MaskedPixelsChangeNothingThatTheEncoderGivesForVisiblePatches) {
  const at::Tensor patches = image_to_patches(batch_.images);
  const at::Tensor visible =
      torch::zeros({batch_.images.size(0), 64, 1}).scatter_(1, batch_.grid.visible.unsqueeze(2), 1);
  const at::Tensor other = torch::where(visible > 0, patches, torch::randn_like(patches));
  EXPECT_TRUE(torch::equal(model_->encoder->forward_visible(patches, batch_.grid),
                           model_->encoder->forward_visible(other, batch_.grid)));
}

TEST_F(ImageTokenizerParity, MimicReachesNoDecoderAndReconstructionNoMimicHead) {
  model_->losses(batch_).mimic.backward();
  for (const at::Tensor& parameter : model_->masked_decoder->parameters()) {
    EXPECT_FALSE(parameter.grad().defined() && parameter.grad().abs().sum().item<float>() > 0);
  }
  EXPECT_GT(model_->encoder->stem->weight.grad().abs().sum().item<float>(), 0);
  model_->zero_grad();
  model_->losses(batch_).reconstruct.backward();
  EXPECT_FALSE(model_->mimic_head->weight.grad().defined() &&
               model_->mimic_head->weight.grad().abs().sum().item<float>() > 0);
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

TEST(ImageLayout, CellsAndPatchesAreTheImageInAnotherOrder) {
  torch::manual_seed(5);
  const at::Tensor images = torch::rand({2, 3, 16, 16});
  const at::Tensor patches = image_to_patches(images);
  EXPECT_TRUE(torch::equal(cells_to_image(patches_to_cells(patches)), images));
  // Patch 5 of a 4 x 4 grid: rows 4..7, columns 4..7; its last three values are the last pixel.
  EXPECT_TRUE(torch::equal(patches[1][5].slice(0, 45), images[1].select(1, 7).select(1, 7)));
}

}  // namespace
}  // namespace espalier
