#include "models/decoder/sampling.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier {
namespace {

// One of the sequences that are drawn in step.
struct Drawn {
  const std::vector<int64_t>& ids;
  at::Tensor code_sums;  // (pictures, positions, channels), or undefined
};

// Rows that `ids` take, a picture with its marks.
int64_t rows_of(const std::vector<int64_t>& ids, int64_t image_positions) {
  const auto pictures = std::count(ids.begin(), ids.end(), kPicture);
  return std::ssize(ids) + pictures * (image_positions + 1);
}

// Embeddings of [prompt, begin of image], padded on the left; returns them with the padding.
std::pair<at::Tensor, std::vector<int64_t>> embed_prompts(YModel& model, int64_t branch,
                                                          const std::vector<Drawn>& prompts,
                                                          at::Device device) {
  const int64_t positions = model->options().image_positions;
  int64_t longest = 0, texts = 0;
  for (const Drawn& prompt : prompts) {
    longest = std::max(longest, rows_of(prompt.ids, positions));
    texts += std::ssize(prompt.ids) - std::count(prompt.ids.begin(), prompt.ids.end(), kPicture);
  }
  std::vector<int64_t> ids, sources, padding, image_positions;
  std::vector<at::Tensor> code_sums;
  for (const Drawn& prompt : prompts) {
    padding.push_back(longest - rows_of(prompt.ids, positions));
    sources.insert(sources.end(), static_cast<size_t>(padding.back()), kEndOfImage);  // not seen
    for (const int64_t id : prompt.ids) {
      if (id != kPicture) {
        sources.push_back(kFirstText + std::ssize(ids));
        ids.push_back(id);
        continue;
      }
      sources.push_back(kBeginOfImage);
      for (int64_t p = 0; p < positions; ++p) {
        sources.push_back(kFirstText + texts + std::ssize(image_positions));
        image_positions.push_back(p);
      }
      sources.push_back(kEndOfImage);
    }
    sources.push_back(kBeginOfImage);
    if (prompt.code_sums.defined()) code_sums.push_back(prompt.code_sums.flatten(0, 1));
  }
  TokenRows rows;
  rows.text_ids = at::tensor(ids, at::kLong).to(device);
  rows.sources = at::tensor(sources, at::kLong).to(device);
  if (!code_sums.empty()) {
    rows.code_sums = at::cat(code_sums);
    rows.positions = at::tensor(image_positions, at::kLong).to(device);
  }
  rows.mask = AttentionMask::from_lengths(std::vector<int64_t>(prompts.size(), longest + 1));
  return {model->embed(rows, branch), padding};
}

// Sequences that are drawn in step: of every prompt, then where guidance asks for them of every
// prompt without its text, and of the null prompts.
struct GuidedPrompts {
  std::vector<Drawn> sequences;
  bool has_pictures_alone = false, has_null = false;

  GuidedPrompts(const std::vector<DrawPrompt>& prompts, const SamplingOptions& options) {
    const bool has_pictures = !prompts.front().without_text.empty();
    const double of_pictures =
        options.picture_guidance == 0 ? options.guidance : options.picture_guidance;
    has_pictures_alone = has_pictures && of_pictures != options.guidance;
    has_null = options.guidance != 1.0 || (has_pictures && of_pictures != 1.0);
    for (const DrawPrompt& prompt : prompts) {
      TORCH_CHECK(prompt.without_text.empty() != has_pictures, "some prompts have no pictures");
      sequences.push_back({prompt.ids, prompt.code_sums});
    }
    for (const DrawPrompt& prompt : prompts) {
      if (has_pictures_alone) sequences.push_back({prompt.without_text, prompt.code_sums});
    }
    for (const DrawPrompt& prompt : prompts) {
      if (has_null) sequences.push_back({prompt.null, {}});
    }
  }

  int64_t copies() const { return 1 + (has_pictures_alone ? 1 : 0) + (has_null ? 1 : 0); }

  // Logits of all sequences -> those to draw by.
  at::Tensor guide(const at::Tensor& logits, const SamplingOptions& options) const {
    if (!has_null) return logits;
    const std::vector<at::Tensor> parts = logits.chunk(copies());
    const at::Tensor& whole = parts.front();
    if (!has_pictures_alone) {
      return guided_logits(whole, parts.back(), options.guidance, options.plausibility);
    }
    return guided_logits(whole, parts[1], options.guidance, options.plausibility) +
           (options.picture_guidance - 1) * (parts[1] - parts.back());
  }
};

at::Tensor embed_position(YModel& model, int64_t branch, const at::Tensor& code_sums,
                          int64_t position) {
  const int64_t batch = code_sums.size(0);
  TokenRows rows;
  rows.code_sums = code_sums;
  rows.positions = at::full({batch}, position, code_sums.options().dtype(at::kLong));
  rows.sources = at::arange(batch, rows.positions.options()) + kFirstText;
  rows.mask = AttentionMask::from_lengths(std::vector<int64_t>(static_cast<size_t>(batch), 1));
  return model->embed(rows, branch);
}

}  // namespace

at::Tensor guided_logits(const at::Tensor& conditional, const at::Tensor& unconditional,
                         double guidance, double plausibility) {
  const at::Tensor guided = unconditional + guidance * (conditional - unconditional);
  if (guidance <= 1 || plausibility <= 0) return guided;
  const at::Tensor best = std::get<0>(conditional.max(-1, /*keepdim=*/true));
  return guided.masked_fill(conditional < best + std::log(plausibility),
                            -std::numeric_limits<double>::infinity());
}

at::Tensor sample_rows(const at::Tensor& logits, const at::Tensor& uniforms,
                       const SamplingOptions& options) {
  // Smaller temperatures are zero in fp32.
  if (options.temperature < std::numeric_limits<float>::min()) return logits.argmax(-1);
  auto [sorted, order] = logits.to(at::kFloat).sort(/*stable=*/true, -1, /*descending=*/true);
  // From the largest logit down, so that a low temperature makes no infinite ones of the best.
  sorted = (sorted - sorted.narrow(1, 0, 1)) / options.temperature;
  if (options.top_k > 0 && options.top_k < sorted.size(1)) {
    sorted = sorted.narrow(1, 0, options.top_k);
  }
  at::Tensor probabilities = sorted.softmax(-1);
  const at::Tensor is_left_out = (probabilities.cumsum(-1) - probabilities).ge(options.top_p);
  is_left_out.select(1, 0).fill_(false);
  probabilities = probabilities.masked_fill(is_left_out, 0);
  const at::Tensor cumulative = probabilities.cumsum(-1);
  const at::Tensor target = uniforms.to(cumulative.options()).unsqueeze(1) *
                            cumulative.narrow(1, cumulative.size(1) - 1, 1);
  // The first index whose cumulative probability exceeds the target; rounding may leave none.
  const at::Tensor kept = (probabilities > 0).sum(-1);
  const at::Tensor index = at::minimum((cumulative <= target).sum(-1), kept - 1);
  return order.gather(1, index.unsqueeze(1)).squeeze(1);
}

at::Tensor draw_codes(YModel& model, int64_t branch, const std::vector<DrawPrompt>& prompts,
                      const at::Tensor& codebooks, const at::Tensor& uniforms,
                      const SamplingOptions& options) {
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(options.plausibility >= 0 && options.plausibility <= 1,
              "plausibility must lie in 0..1, got ", options.plausibility);
  const YModelOptions& shape = model->options();
  const GuidedPrompts guided(prompts, options);
  auto [embeddings, padding] = embed_prompts(model, branch, guided.sequences, codebooks.device());
  const int64_t rows = std::ssize(guided.sequences);
  int64_t count = embeddings.size(0) / rows;
  KeyValueCache cache(model->cache_layers(branch), padding, count + shape.image_positions);
  const at::Tensor codes = at::zeros({std::ssize(prompts), shape.image_positions, shape.stages},
                                     uniforms.options().dtype(at::kLong));
  for (int64_t position = 0; position < shape.image_positions; ++position) {
    const at::Tensor hidden = model->step(embeddings, branch, cache, count)
                                  .view({rows, count, -1})
                                  .select(1, count - 1)
                                  .contiguous();
    at::Tensor sums;  // (stages so far, rows, channels)
    for (int64_t stage = 0; stage < shape.stages; ++stage) {
      const at::Tensor logits =
          model->depth(branch)->forward(hidden, sums).select(0, stage).to(at::kFloat);
      const at::Tensor drawn = sample_rows(guided.guide(logits, options),
                                           uniforms.select(1, position).select(1, stage), options);
      codes.select(1, position).select(1, stage).copy_(drawn);
      const at::Tensor vectors =
          codebooks[stage].index_select(0, drawn).repeat({guided.copies(), 1});
      const at::Tensor sum = sums.defined() ? sums.select(0, stage - 1) + vectors : vectors;
      sums = sums.defined() ? at::cat({sums, sum.unsqueeze(0)}) : sum.unsqueeze(0);
    }
    embeddings = embed_position(model, branch, sums.select(0, shape.stages - 1), position);
    count = 1;
  }
  return codes;
}

std::vector<std::vector<int32_t>> continue_text(YModel& model, int64_t branch,
                                                const TokenRows& rows, int64_t end_id,
                                                int64_t max_tokens) {
  const torch::NoGradGuard no_grad;
  const int64_t batch = rows.mask.sequences();
  int64_t count = rows.mask.longest();
  TORCH_CHECK(batch * count == rows.mask.rows() && rows.mask.is_causal(),
              "continue_text wants causal sequences of one length, got ", rows.mask);
  KeyValueCache cache(model->cache_layers(branch),
                      std::vector<int64_t>(static_cast<size_t>(batch), 0), count + max_tokens);
  at::Tensor embeddings = model->embed(rows, branch);
  std::vector<std::vector<int32_t>> texts(static_cast<size_t>(batch));
  std::vector<bool> ended(static_cast<size_t>(batch), false);
  for (int64_t token = 0; token < max_tokens; ++token) {
    const at::Tensor hidden = model->step(embeddings, branch, cache, count)
                                  .view({batch, count, -1})
                                  .select(1, count - 1)
                                  .contiguous();
    const at::Tensor next = model->text_logits(hidden, branch).argmax(-1);
    const at::Tensor on_host = next.to(at::kCPU);
    for (size_t b = 0; b < texts.size(); ++b) {
      const int64_t id = on_host[static_cast<int64_t>(b)].item<int64_t>();
      ended[b] = ended[b] || id == end_id;
      if (!ended[b]) texts[b].push_back(static_cast<int32_t>(id));
    }
    if (std::all_of(ended.begin(), ended.end(), [](bool e) { return e; })) break;
    TokenRows more;
    more.text_ids = next;
    more.sources = at::arange(batch, next.options()) + kFirstText;
    more.mask = AttentionMask::from_lengths(std::vector<int64_t>(texts.size(), 1));
    embeddings = model->embed(more, branch);
    count = 1;
  }
  return texts;
}

}  // namespace espalier
