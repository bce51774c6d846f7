#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/images/image.h"
#include "models/decoder/sampling.h"
#include "trainer/models/y_decoder.h"

namespace espalier {

// Asking a Y-shaped decoder, by branch index: no gradients, any number of images or texts.

// What follows `prompt` after each image, as the most likely tokens. codes (B, positions, stages),
// semantics (B, positions, channels).
std::vector<std::vector<int32_t>> write_answers(YDecoder& model, int64_t branch,
                                                const std::vector<int64_t>& prompt,
                                                const at::Tensor& codes,
                                                const at::Tensor& semantics, int64_t max_tokens);

// The same as text; images of any size are fitted to the tokenizer's.
std::vector<std::string> write_about(YDecoder& model, int64_t branch,
                                     const std::vector<int64_t>& prompt,
                                     const std::vector<Image>& images);

// One caption per image; images of any size are fitted to the tokenizer's.
std::vector<std::string> write_captions(YDecoder& model, int64_t branch,
                                        const std::vector<Image>& images);

// Codes (texts, positions, stages). Text i draws its random numbers from (seed, streams[i]), so
// what else is drawn with it makes no difference.
at::Tensor draw_codes(YDecoder& model, int64_t branch, const std::vector<std::string>& texts,
                      const std::vector<int64_t>& streams, const SamplingOptions& sampling,
                      uint64_t seed);

// One picture per text.
std::vector<Image> draw_pictures(YDecoder& model, int64_t branch,
                                 const std::vector<std::string>& texts,
                                 const SamplingOptions& sampling, uint64_t seed);

}  // namespace espalier
