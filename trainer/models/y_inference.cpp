#include "trainer/models/y_inference.h"

#include <numeric>

#include <torch/torch.h>

#include "data/order/random.h"
#include "models/layers/batch_invariance.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/models/sequences.h"

namespace espalier {
namespace {

constexpr uint64_t kDrawStream = 0x64726177;

}  // namespace

std::vector<std::vector<int32_t>> write_answers(YDecoder& model, int64_t branch,
                                                const std::vector<int64_t>& prompt,
                                                int64_t sequences, const ImageCodes& codes,
                                                int64_t max_tokens) {
  const torch::NoGradGuard no_grad;
  const PlainProducts tokens_one_by_one;
  const SequenceTokens& tokens = model.text().tokens();
  SequencePacker packer(tokens, model.image_positions());
  for (int64_t i = 0; i < sequences; ++i) packer.add_read(prompt, {}, /*with_targets=*/false);
  TokenRows rows = model.to_device(packer.rows());
  if (rows.pictures.numel() > 0) model.set_image_inputs(rows, codes.codes, codes.semantics);
  return continue_text(model.module(), branch, rows, tokens.end, max_tokens);
}

ImageCodes encode_pictures(const YDecoder& model, const std::vector<Image>& pictures) {
  if (pictures.empty()) return {};
  const ImageCodes codes = encode_images(model.image_tokenizer().module(),
                                         images_to_tensor(pictures).to(model.device()), 1);
  return {codes.codes[0], codes.semantics[0]};
}

std::vector<std::string> write_captions(YDecoder& model, int64_t branch,
                                        const std::vector<Image>& pictures) {
  std::vector<std::string> texts;
  for (const auto& ids :
       write_answers(model, branch, {kPicture, model.text().tokens().caption}, std::ssize(pictures),
                     encode_pictures(model, pictures), model.max_text_tokens())) {
    texts.push_back(model.text().decode(ids));
  }
  return texts;
}

std::string write_after(YDecoder& model, int64_t branch, const std::vector<int64_t>& prompt,
                        const std::vector<Image>& pictures) {
  return model.text().decode(write_answers(model, branch, prompt, 1,
                                           encode_pictures(model, pictures),
                                           model.max_text_tokens())
                                 .front());
}

at::Tensor draw_codes(YDecoder& model, int64_t branch, const std::vector<DrawPrompt>& prompts,
                      const std::vector<int64_t>& streams, const SamplingOptions& sampling,
                      uint64_t seed) {
  TORCH_CHECK(streams.size() == prompts.size(), "one stream for each prompt");
  const torch::NoGradGuard no_grad;
  const PlainProducts tokens_one_by_one;
  const YModelOptions& shape = model.module()->options();
  const auto count = static_cast<int64_t>(prompts.size());
  at::Tensor uniforms = torch::empty({count, shape.image_positions, shape.stages});
  for (int64_t i = 0; i < count; ++i) {
    CounterRng rng(
        seed, combine_streams(kDrawStream, static_cast<uint64_t>(streams[static_cast<size_t>(i)])));
    float* u = uniforms[i].data_ptr<float>();
    for (int64_t k = 0; k < shape.image_positions * shape.stages; ++k) {
      u[k] = static_cast<float>(rng.uniform());
    }
  }
  return espalier::draw_codes(model.module(), branch, prompts, model.codebooks(),
                              uniforms.to(model.device()), sampling);
}

std::vector<Image> draw_pictures(YDecoder& model, int64_t branch,
                                 const std::vector<DrawPrompt>& prompts,
                                 const SamplingOptions& sampling, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  std::vector<int64_t> streams(prompts.size());
  std::iota(streams.begin(), streams.end(), int64_t{0});
  const at::Tensor codes = draw_codes(model, branch, prompts, streams, sampling, seed);
  return tensor_to_images(model.image_tokenizer().module()->decode_pixels(codes));
}

}  // namespace espalier
