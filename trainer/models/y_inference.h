#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/images/image.h"
#include "models/decoder/sampling.h"
#include "trainer/models/y_decoder.h"

namespace espalier {

// Asking a Y-shaped decoder, by branch index: no gradients, any number of images or texts.

// What follows `prompt`, which has the same pictures in each sequence, as the most likely tokens.
// codes (sequences * pictures, positions, stages), semantics (.., positions, channels), sequence
// after sequence.
std::vector<std::vector<int32_t>> write_answers(YDecoder& model, int64_t branch,
                                                const std::vector<int64_t>& prompt,
                                                int64_t sequences, const ImageCodes& codes,
                                                int64_t max_tokens);

// Pictures of the tokenizer's size through it: codes (pictures, positions, stages) and semantics.
ImageCodes encode_pictures(const YDecoder& model, const std::vector<Image>& pictures);

// One caption per picture, which have the tokenizer's size.
std::vector<std::string> write_captions(YDecoder& model, int64_t branch,
                                        const std::vector<Image>& pictures);
// What follows a prompt with these pictures.
std::string write_after(YDecoder& model, int64_t branch, const std::vector<int64_t>& prompt,
                        const std::vector<Image>& pictures);

// Codes (prompts, positions, stages). Prompt i draws its random numbers from (seed, streams[i]), so
// what else is drawn with it makes no difference.
at::Tensor draw_codes(YDecoder& model, int64_t branch, const std::vector<DrawPrompt>& prompts,
                      const std::vector<int64_t>& streams, const SamplingOptions& sampling,
                      uint64_t seed);

// One picture per prompt, of streams 0, 1, ...
std::vector<Image> draw_pictures(YDecoder& model, int64_t branch,
                                 const std::vector<DrawPrompt>& prompts,
                                 const SamplingOptions& sampling, uint64_t seed);

}  // namespace espalier
