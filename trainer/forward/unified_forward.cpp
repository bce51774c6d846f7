#include "trainer/forward/unified_forward.h"

#include <algorithm>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "models/layers/fused_ops.h"
#include "trainer/forward/exported_decoder.h"
#include "trainer/forward/unified_rows.h"
#include "trainer/named/image_codes.h"
#include "trainer/named/picture_semantics.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

// One pass: what goes in, and the outputs as they are made.
struct Pass {
  const ForwardRequest& request;
  const ForwardInputs& in;
  const UnifiedBatch& batch;
  UnifiedRows packed;
  YModel model{nullptr};
  at::Tensor code_sums;  // (stages, pictures, positions, channels): sums of stages 0..s
  TensorMap out;
};

// The frozen tokenizer's part, in fp32 whatever the type of the products.
void set_image_inputs(Pass& pass, ImageTokenizer& tokenizer) {
  const torch::NoGradGuard no_grad;
  const at::Device device = pass.request.device;
  const at::Tensor codes = pass.batch.codes.to(device);
  TokenRows& rows = pass.packed.rows;
  for (at::Tensor* t : {&rows.text_ids, &rows.positions, &rows.sources}) *t = t->to(device);
  if (codes.size(0) == 0) return;
  const at::Tensor image_rows = pass.packed.image_rows.to(device);
  pass.code_sums = sum_codes(scaled_codebooks(tokenizer), codes);
  const int64_t all_stages = pass.code_sums.size(0) - 1;
  rows.code_sums = pass.code_sums[all_stages].flatten(0, 1).index_select(0, image_rows);
  if (pass.packed.drawn_pictures.defined()) return;
  const at::Tensor semantics = picture_semantics(tokenizer, codes).to(at::kFloat);
  pass.out["semantics"] = semantics.cpu();
  rows.semantics = semantics.flatten(0, 1).index_select(0, image_rows);
}

// Both return the loss, undefined where there are no labels.
at::Tensor write_text(Pass& pass, const at::Tensor& hidden) {
  const at::Tensor logits = pass.model->text_logits(hidden, pass.batch.branch);
  pass.out["logits"] = pass.packed.cells.spread(logits);
  if (!pass.batch.labels.defined()) return {};
  return shifted_loss(logits, pass.packed.cells, pass.batch.labels, pass.in);
}

at::Tensor write_codes(Pass& pass, const at::Tensor& hidden) {
  const YModelOptions& o = pass.model->options();
  const at::Tensor drawn = pass.packed.drawn_pictures.to(hidden.device());
  const at::Tensor known =
      pass.code_sums.index_select(1, drawn).flatten(1, 2).narrow(0, 0, o.stages - 1);
  const at::Tensor logits =  // (stages, batch * positions, codebook)
      pass.model->depth(pass.batch.branch)->forward(hidden, known);
  const at::Tensor targets = pass.batch.codes.to(hidden.device())
                                 .index_select(0, drawn)
                                 .narrow(2, 0, o.stages)
                                 .permute({2, 0, 1})
                                 .reshape(-1);
  pass.out["logits"] = logits.detach()
                           .to(at::kCPU, at::kFloat)
                           .permute({1, 0, 2})
                           .reshape({drawn.size(0), o.image_positions, o.stages, o.codebook_size});
  return cross_entropy_sum(logits.flatten(0, 1), targets) / targets.numel();
}

at::Tensor run(Pass& pass) {
  const at::AutoGradMode with_gradients(pass.request.with_gradients);
  const PrecisionGuard guard(pass.request.device.type(),
                             pass.request.type == at::kBFloat16 ? "bf16" : "fp32");
  const at::Tensor asked = pass.packed.asked.to(pass.request.device);
  std::vector<at::Tensor> states;
  for (const at::Tensor& rows : pass.model->hidden_states(pass.packed.rows, pass.batch.branch)) {
    states.push_back(rows.index_select(0, asked));
  }
  add_hidden_states(states, pass.packed.cells, pass.request.with_hidden_states, pass.out);
  const bool draws = pass.packed.drawn_pictures.defined();
  return draws ? write_codes(pass, states.back()) : write_text(pass, states.back());
}

}  // namespace

TensorMap forward_unified(const ForwardRequest& request) {
  WeightFolder weights(request.folder);
  ExportedDecoder exported = read_exported_decoder(request.folder, weights);
  const ForwardInputs in(request);
  const UnifiedBatch batch = read_unified_batch(in, exported.options, exported.image.stages());
  Pass pass{request, in, batch, pack_unified(batch, exported.options), {nullptr}, {}, {}};
  if (request.with_gradients && !batch.labels.defined() && !pass.packed.drawn_pictures.defined()) {
    in.refuse("labels", "is missing, and gradients are those of the loss");
  }
  int64_t& longest = exported.options.longest_sequence;
  longest = std::max(longest, pass.packed.rows.mask.longest());
  pass.model = load_exported_decoder(weights, exported);
  pass.model->to(request.device);
  ImageTokenizer tokenizer = load_exported_tokenizer(weights, exported);
  tokenizer->to(request.device);
  set_image_inputs(pass, tokenizer);
  const at::Tensor loss = run(pass);
  if (loss.defined()) pass.out["loss"] = loss.detach().to(at::kCPU, at::kFloat);
  if (!request.with_gradients) return pass.out;
  loss.backward();
  for (const auto& item : pass.model->named_parameters()) {
    const at::Tensor& gradient = item.value().grad();
    if (!gradient.defined()) continue;
    pass.out["grad." + exported.name + "." + item.key()] = gradient.to(at::kCPU, at::kFloat);
  }
  return pass.out;
}

}  // namespace espalier
