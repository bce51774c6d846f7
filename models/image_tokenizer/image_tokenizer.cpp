#include "models/image_tokenizer/image_tokenizer.h"

#include "models/teachers/feature_losses.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Straight-through: the value of `quantized`, the gradient of `latents`.
struct StraightThrough : torch::autograd::Function<StraightThrough> {
  static at::Tensor forward(AutogradContext*, const at::Tensor& /*latents*/,
                            const at::Tensor& quantized) {
    return quantized.clone();
  }
  static variable_list backward(AutogradContext*, const variable_list& gradients) {
    return {gradients[0].to(at::kFloat), at::Tensor()};
  }
};

// Sum over stages of |latent - sum up to the stage|^2; gradient to the latents.
struct Commitment : torch::autograd::Function<Commitment> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& latents,
                            const at::Tensor& sums) {
    const at::Tensor residuals = latents.unsqueeze(0) - sums;
    ctx->save_for_backward({residuals.sum(0)});
    return residuals.square_().sum();
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    return {ctx->get_saved_variables()[0] * (gradients[0] * 2), at::Tensor()};
  }
};

at::Tensor squared_error(const at::Tensor& output, const at::Tensor& target) {
  return (output.to(at::kFloat) - target).square().sum();
}

}  // namespace

ImageTokenizerImpl::ImageTokenizerImpl(const ImageTokenizerOptions& options) : options_(options) {
  TORCH_CHECK(options.image_size == 4 * options.latent_size, "an image of ", options.image_size,
              " pixels needs a latent of ", options.image_size / 4, " positions, not ",
              options.latent_size);
  TORCH_CHECK(options.latent_size % 2 == 0, "the latent size must be even");
  const int64_t tokens = options.encoder_channels();
  encoder = register_module("encoder", Encoder(options.width, options.encoder_blocks));
  to_latent = register_module("to_latent", torch::nn::Linear(tokens, options.latent_channels));
  ResidualQuantizerOptions quantizer_options;
  quantizer_options.stages = options.stages();
  quantizer_options.codebook_size = options.codebook_size;
  quantizer_options.channels = options.latent_channels;
  quantizer_options.decay = options.codebook_decay;
  quantizer_options.dead_below = options.restart_below;
  quantizer = register_module("quantizer", ResidualQuantizer(quantizer_options));
  pixel_decoder =
      register_module("pixel_decoder",
                      PixelDecoder(options.latent_channels, options.width, options.decoder_blocks));
  semantic_decoder = register_module(
      "semantic_decoder",
      SemanticDecoder(options.latent_channels, options.width, options.teacher_channels));
}

at::Tensor ImageTokenizerImpl::encode(const at::Tensor& images) {
  const torch::NoGradGuard no_gradient;
  const at::Tensor latents = to_latent->forward(encoder->forward(image_to_patches(images)));
  const Quantized quantized =
      quantizer->quantize(latents.to(at::kFloat).view({-1, options_.latent_channels}));
  return quantized.codes.view({images.size(0), options_.positions(), options_.stages()});
}

at::Tensor ImageTokenizerImpl::embed(const at::Tensor& codes, int64_t stages) const {
  return quantizer->embed(codes, stages);
}

at::Tensor ImageTokenizerImpl::decode_pixels(const at::Tensor& codes, int64_t stages) {
  const torch::NoGradGuard no_gradient;
  const at::Tensor latents = embed(codes, stages == 0 ? options_.pixel_stages : stages);
  return cells_to_image(pixel_decoder->forward(latents).to(at::kFloat)).clamp_(-1, 1);
}

at::Tensor ImageTokenizerImpl::semantic(const at::Tensor& codes, int64_t stages) {
  const torch::NoGradGuard no_gradient;
  return semantic_decoder->hidden(embed(codes, stages == 0 ? options_.stages() : stages));
}

at::Tensor ImageTokenizerImpl::teacher_space(const at::Tensor& codes, int64_t stages) {
  const torch::NoGradGuard no_gradient;
  return semantic_decoder->project(semantic(codes, stages)).to(at::kFloat);
}

at::Tensor ImageTokenizerImpl::quantized_at(const Quantized& quantized,
                                            const at::Tensor& depth) const {
  const int64_t batch = depth.size(0);
  const at::Tensor rows = (depth - 1) * batch + at::arange(batch, depth.options());
  return quantized.sums.view({options_.stages() * batch, -1})
      .index_select(0, rows)
      .view({batch * options_.positions(), options_.latent_channels});
}

TokenizerLosses ImageTokenizerImpl::losses(const TokenizerBatch& batch) {
  const int64_t images = batch.images.size(0), positions = options_.positions();
  TokenizerLosses result;
  result.patches = image_to_patches(batch.images);
  const at::Tensor latents = to_latent->forward(encoder->forward(result.patches))
                                 .to(at::kFloat)
                                 .view({-1, options_.latent_channels});
  result.latents = latents.detach();
  result.quantized = quantizer->quantize(result.latents);
  const auto latent_at = [&](const at::Tensor& depth) {
    return StraightThrough::apply(latents, quantized_at(result.quantized, depth))
        .view({images, positions, options_.latent_channels});
  };
  result.commitment = Commitment::apply(latents, result.quantized.sums);
  result.pixel = squared_error(pixel_decoder->forward(latent_at(batch.pixel_depth)),
                               patches_to_cells(result.patches));
  const at::Tensor teacher = batch.teacher.flatten(0, 1);
  const at::Tensor semantic =
      semantic_decoder->project(semantic_decoder->hidden(latent_at(batch.semantic_depth)));
  result.semantic = cosine_fold_loss(semantic.flatten(0, 1), teacher, options_.folds);
  return result;
}

}  // namespace espalier
