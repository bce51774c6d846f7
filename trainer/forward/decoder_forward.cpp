#include "trainer/forward/decoder_forward.h"

#include <algorithm>

#include <torch/torch.h>

#include "models/decoder/y_model.h"
#include "models/hugging_face/decoder_config.h"
#include "models/hugging_face/decoder_names.h"
#include "models/hugging_face/weight_folder.h"
#include "trainer/errors.h"
#include "trainer/forward/forward_inputs.h"
#include "trainer/forward/forward_outputs.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

struct TextBatch {
  at::Tensor ids, mask, positions;  // (batch, length)
  at::Tensor labels;                // the same, or undefined
  int64_t batch() const { return ids.size(0); }
  int64_t length() const { return ids.size(1); }
};

TextBatch read_batch(const ForwardInputs& in, const DecoderConfig& config) {
  in.expect_only({"input_ids", "attention_mask", "position_ids", "labels"});
  TextBatch batch;
  batch.ids = in.integers("input_ids", {-1, -1});
  const std::vector<int64_t> shape = batch.ids.sizes().vec();
  if (batch.ids.numel() == 0) in.refuse("input_ids", "is empty");
  const auto expect_ids = [&](const std::string& name, const at::Tensor& ids) {
    in.expect_range(name, ids, 0, config.vocabulary_size,
                    "ids below vocab_size = " + std::to_string(config.vocabulary_size));
  };
  expect_ids("input_ids", batch.ids);
  batch.mask = in.has("attention_mask") ? in.integers("attention_mask", shape).ne(0)
                                        : at::ones(shape, at::kBool);
  batch.positions = in.has("position_ids")
                        ? in.integers("position_ids", shape)
                        : at::arange(shape[1], at::kLong).expand(shape).contiguous();
  if (batch.positions.min().item<int64_t>() < 0) in.refuse("position_ids", "has one below 0");
  if (in.has("labels")) {
    batch.labels = in.integers("labels", shape);
    expect_ids("labels", batch.labels.masked_fill(batch.labels.eq(kNoLabel), 0));
  }
  return batch;
}

// A stretch of one sequence in which positions follow each other and all are tokens, or all
// padding.
struct Stretch {
  int64_t first = 0, length = 0, position = 0;
  bool is_padding = false;
};

std::vector<Stretch> stretches_of(const at::Tensor& mask, const at::Tensor& positions) {
  const auto is_token = mask.accessor<bool, 1>();
  const auto position = positions.accessor<int64_t, 1>();
  std::vector<Stretch> all;
  for (int64_t t = 0; t < mask.size(0); ++t) {
    const bool goes_on = !all.empty() && all.back().is_padding == !is_token[t] &&
                         position[t] == all.back().position + all.back().length;
    if (goes_on) {
      ++all.back().length;
    } else {
      all.push_back({t, 1, position[t], !is_token[t]});
    }
  }
  return all;
}

// The batch as packed rows. A token sees the tokens before it and itself; padding, as in the
// reference, sees the tokens before it.
struct PackedText {
  AttentionMask mask;
  OutputCells cells;  // every row stands in one
};

PackedText pack(const TextBatch& batch) {
  std::vector<MaskGroup> groups;
  std::vector<at::Tensor> cells;
  int64_t row = 0;
  for (int64_t b = 0; b < batch.batch(); ++b) {
    std::vector<int64_t> tokens;  // groups of this sequence
    for (const Stretch& s : stretches_of(batch.mask[b], batch.positions[b])) {
      if (s.is_padding && tokens.empty()) continue;
      MaskGroup group{.first = row, .length = s.length, .position = s.position};
      group.rule = s.is_padding ? MaskRule::kNone : MaskRule::kCausal;
      group.sees = tokens;
      if (!s.is_padding) tokens.push_back(std::ssize(groups));
      groups.push_back(group);
      cells.push_back(at::arange(s.length, at::kLong) + (b * batch.length() + s.first));
      row += s.length;
    }
  }
  return {AttentionMask(groups), {at::cat(cells), batch.batch(), batch.length()}};
}

YModel load_model(const ForwardRequest& request, const DecoderConfig& config, int64_t positions) {
  YModelOptions options;
  apply(config, options);
  options.image_positions = 0;
  options.longest_sequence = positions;
  options.trunk_layers = config.layers / 2;
  options.branches = {{.name = "text", .layers = config.layers - options.trunk_layers}};
  WeightFolder weights(request.folder);
  YModel model(options);
  load_decoder(weights, model);
  model->to(request.device);
  return model;
}

void add_gradients(const YModel& model, TensorMap& out) {
  const auto parameters = model->named_parameters();
  for (const DecoderName& name : decoder_names(model->options(), 0)) {
    const at::Tensor& gradient = parameters[name.ours].grad();
    if (!gradient.defined()) continue;
    out["grad." + name.theirs] = name.part_of(gradient).to(at::kCPU, at::kFloat).clone();
  }
}

}  // namespace

TensorMap forward_decoder(const ForwardRequest& request) {
  const DecoderConfig config = read_decoder_config(request.folder);
  const ForwardInputs in(request);
  const TextBatch batch = read_batch(in, config);
  if (request.with_gradients && !batch.labels.defined()) {
    in.refuse("labels", "is missing, and gradients are those of the loss");
  }
  if (request.is_training && config.attention_dropout > 0) {
    throw ConfigError(request.folder + "/config.json: attention_dropout = " +
                      std::to_string(config.attention_dropout) +
                      ": --train would drop attention, which is not supported; expected 0");
  }
  YModel model = load_model(request, config, batch.positions.max().item<int64_t>() + 1);
  const PackedText packed = pack(batch);
  TokenRows rows;
  rows.text_ids = batch.ids.flatten().index_select(0, packed.cells.cells).to(request.device);
  rows.sources = at::arange(kFirstText, kFirstText + packed.mask.rows(), rows.text_ids.options());
  rows.mask = packed.mask;
  TensorMap out;
  at::Tensor loss;
  {
    const at::AutoGradMode with_gradients(request.with_gradients);
    const PrecisionGuard guard(request.device.type(),
                               request.type == at::kBFloat16 ? "bf16" : "fp32");
    const std::vector<at::Tensor> states = model->hidden_states(rows, 0);
    const at::Tensor logits = model->text_logits(states.back(), 0);
    out["logits"] = packed.cells.spread(logits);
    add_hidden_states(states, packed.cells, request.with_hidden_states, out);
    if (batch.labels.defined()) loss = shifted_loss(logits, packed.cells, batch.labels, in);
  }
  if (loss.defined()) out["loss"] = loss.detach().to(at::kCPU, at::kFloat);
  if (request.with_gradients) {
    loss.backward();
    add_gradients(model, out);
  }
  return out;
}

}  // namespace espalier
