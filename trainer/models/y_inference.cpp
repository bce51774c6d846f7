#include "trainer/models/y_inference.h"

#include <algorithm>
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
                                                const at::Tensor& codes,
                                                const at::Tensor& semantics, int64_t max_tokens) {
  const torch::NoGradGuard no_grad;
  const PlainProducts tokens_one_by_one;
  const SequenceTokens& tokens = model.text().tokens();
  SequencePacker packer(tokens, codes.size(1));
  for (int64_t i = 0; i < codes.size(0); ++i) packer.add_read(prompt, {}, /*with_targets=*/false);
  TokenRows rows = model.to_device(packer.rows());
  model.set_image_inputs(rows, codes, semantics);
  return continue_text(model.module(), branch, rows, tokens.end, max_tokens);
}

std::vector<std::string> write_about(YDecoder& model, int64_t branch,
                                     const std::vector<int64_t>& prompt,
                                     const std::vector<Image>& images) {
  ResidualImageTokenizer& tokenizer = model.image_tokenizer();
  std::vector<Image> fitted;
  for (const Image& image : images) {
    fitted.push_back(fit_square(image, static_cast<int>(tokenizer.options().image_size)));
  }
  const ImageCodes codes =
      encode_images(tokenizer.module(), images_to_tensor(fitted).to(model.device()), 1);
  std::vector<std::string> texts;
  for (const auto& ids : write_answers(model, branch, prompt, codes.codes[0], codes.semantics[0],
                                       model.max_text_tokens())) {
    texts.push_back(model.text().decode(ids));
  }
  return texts;
}

std::vector<std::string> write_captions(YDecoder& model, int64_t branch,
                                        const std::vector<Image>& images) {
  return write_about(model, branch, {model.text().tokens().caption}, images);
}

at::Tensor draw_codes(YDecoder& model, int64_t branch, const std::vector<std::string>& texts,
                      const std::vector<int64_t>& streams, const SamplingOptions& sampling,
                      uint64_t seed) {
  TORCH_CHECK(streams.size() == texts.size(), "one stream for each text");
  const torch::NoGradGuard no_grad;
  const PlainProducts tokens_one_by_one;
  const YModelOptions& shape = model.module()->options();
  const SequenceTokens& tokens = model.text().tokens();
  const auto count = static_cast<int64_t>(texts.size());
  std::vector<std::vector<int64_t>> prompts;
  at::Tensor uniforms = torch::empty({count, shape.image_positions, shape.stages});
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int64_t> prompt = {tokens.draw};
    const auto name = model.encode(texts[static_cast<size_t>(i)]);
    prompt.insert(prompt.end(), name.begin(), name.end());
    prompts.push_back(std::move(prompt));
    CounterRng rng(
        seed, combine_streams(kDrawStream, static_cast<uint64_t>(streams[static_cast<size_t>(i)])));
    float* u = uniforms[i].data_ptr<float>();
    for (int64_t k = 0; k < shape.image_positions * shape.stages; ++k) {
      u[k] = static_cast<float>(rng.uniform());
    }
  }
  return espalier::draw_codes(model.module(), branch, prompts, {tokens.draw, tokens.null},
                              model.codebooks(), uniforms.to(model.device()), sampling);
}

std::vector<Image> draw_pictures(YDecoder& model, int64_t branch,
                                 const std::vector<std::string>& texts,
                                 const SamplingOptions& sampling, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  std::vector<int64_t> streams(texts.size());
  std::iota(streams.begin(), streams.end(), int64_t{0});
  const at::Tensor codes = draw_codes(model, branch, texts, streams, sampling, seed);
  return tensor_to_images(model.image_tokenizer().module()->decode_pixels(codes));
}

}  // namespace espalier
