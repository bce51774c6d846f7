#include "models/decoder/sampling.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier {
namespace {

// Embeddings of [prompt, begin of image], padded on the left; returns them with the padding.
std::pair<at::Tensor, std::vector<int64_t>> embed_prompts(
    YModel& model, int64_t branch, const std::vector<std::vector<int64_t>>& prompts,
    at::Device device) {
  size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  std::vector<int64_t> ids, sources, padding, lengths;
  for (const auto& prompt : prompts) {
    padding.push_back(static_cast<int64_t>(longest - prompt.size()));
    sources.insert(sources.end(), longest - prompt.size(), kEndOfImage);  // never looked at
    for (const int64_t id : prompt) {
      sources.push_back(kFirstText + static_cast<int64_t>(ids.size()));
      ids.push_back(id);
    }
    sources.push_back(kBeginOfImage);
    lengths.push_back(static_cast<int64_t>(longest) + 1);
  }
  TokenRows rows;
  rows.text_ids = at::tensor(ids, at::kLong).to(device);
  rows.sources = at::tensor(sources, at::kLong).to(device);
  rows.mask = AttentionMask::from_lengths(lengths);
  return {model->embed(rows, branch), padding};
}

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

at::Tensor draw_codes(YModel& model, int64_t branch,
                      const std::vector<std::vector<int64_t>>& prompts,
                      const std::vector<int64_t>& null_prompt, const at::Tensor& codebooks,
                      const at::Tensor& uniforms, const SamplingOptions& options) {
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(options.plausibility >= 0 && options.plausibility <= 1,
              "plausibility must lie in 0..1, got ", options.plausibility);
  const YModelOptions& shape = model->options();
  const auto batch = static_cast<int64_t>(prompts.size());
  const bool is_guided = options.guidance != 1.0;
  auto all_prompts = prompts;
  if (is_guided) all_prompts.insert(all_prompts.end(), prompts.size(), null_prompt);
  auto [embeddings, padding] = embed_prompts(model, branch, all_prompts, codebooks.device());
  const auto rows = static_cast<int64_t>(all_prompts.size());
  int64_t count = embeddings.size(0) / rows;
  KeyValueCache cache(model->cache_layers(branch), padding, count + shape.image_positions);
  const at::Tensor codes =
      at::zeros({batch, shape.image_positions, shape.stages}, uniforms.options().dtype(at::kLong));
  for (int64_t position = 0; position < shape.image_positions; ++position) {
    const at::Tensor hidden = model->step(embeddings, branch, cache, count)
                                  .view({rows, count, shape.width})
                                  .select(1, count - 1);
    at::Tensor sums;  // (stages so far, rows, channels)
    for (int64_t stage = 0; stage < shape.stages; ++stage) {
      at::Tensor logits =
          model->depth(branch)->forward(hidden, sums).select(0, stage).to(at::kFloat);
      if (is_guided) {
        logits = guided_logits(logits.narrow(0, 0, batch), logits.narrow(0, batch, batch),
                               options.guidance, options.plausibility);
      }
      const at::Tensor drawn =
          sample_rows(logits, uniforms.select(1, position).select(1, stage), options);
      codes.select(1, position).select(1, stage).copy_(drawn);
      at::Tensor vectors = codebooks[stage].index_select(0, drawn);
      if (is_guided) vectors = at::cat({vectors, vectors});
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
                                  .view({batch, count, model->options().width})
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
