// The Y: reading through the branch for text, drawing through the branch for codes.
#include "models/layers/fused_ops.h"
#include "tests/gpu/module_checks.h"
#include "tests/models/decoder/packed_rows.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

constexpr int64_t kImages = 5;
constexpr int64_t kPositions = 16;

YModelOptions options() {
  YModelOptions o = small_options();
  o.width = 128;
  o.heads = 4;
  o.kv_heads = 2;
  o.feed_forward_width = 256;
  o.longest_sequence = 64;
  o.image_positions = kPositions;
  o.code_channels = 16;
  o.semantic_channels = 24;
  o.codebook_size = 32;
  o.depth_width = 64;
  return o;
}

// Sequences of different lengths: an image, then one to five words; or two words, then an image.
struct Inputs {
  TokenRows read, draw;
  at::Tensor read_targets, draw_codes, code_sums, draw_rows;
};

Inputs inputs() {
  torch::manual_seed(21);
  const YModelOptions o = options();
  Inputs in;
  Packed read, draw;
  std::vector<int64_t> draw_rows;
  for (int64_t i = 0; i < kImages; ++i) {
    read.mark(kBeginOfImage);
    read.add_image(kPositions);
    read.mark(kEndOfImage);
    for (int64_t word = 0; word <= i; ++word) read.add_text({3 + 5 * i + word});
    read.end();
    draw.add_text({4 + i, 20 - i});
    draw.mark(kBeginOfImage);
    draw.add_image(kPositions - 1);
    for (int64_t p = 0; p < kPositions; ++p) {
      draw_rows.push_back(static_cast<int64_t>(draw.sources.size()) - kPositions + p);
    }
    draw.end();
  }
  in.read = read.rows();
  in.read.code_sums = torch::randn({kImages * kPositions, o.code_channels});
  in.read.semantics = torch::randn({kImages * kPositions, o.semantic_channels});
  in.read_targets = torch::randint(o.vocabulary_size, {in.read.mask.rows()}, at::kLong);
  in.draw = draw.rows();
  in.draw.code_sums = torch::randn({kImages * (kPositions - 1), o.code_channels});
  in.draw_rows = torch::tensor(draw_rows, at::kLong);
  in.draw_codes = torch::randint(o.codebook_size, {o.stages * kImages * kPositions}, at::kLong);
  in.code_sums = torch::randn({o.stages - 1, kImages * kPositions, o.code_channels});
  return in;
}

TokenRows on(at::Device device, const TokenRows& rows) {
  TokenRows moved = rows;
  for (at::Tensor* part :
       {&moved.text_ids, &moved.code_sums, &moved.semantics, &moved.positions, &moved.sources}) {
    if (part->defined()) *part = part->to(device);
  }
  return moved;
}

struct Outputs {
  at::Tensor hidden, logits, read_loss, code_logits, draw_loss;
};

Outputs forward(YModel& model, const Inputs& in, at::Device device) {
  Outputs out;
  out.hidden = model->hidden(on(device, in.read), kUnderstanding);
  out.logits = model->text_logits(out.hidden, kUnderstanding);
  out.read_loss = cross_entropy_sum(out.logits, in.read_targets.to(device));
  const at::Tensor hidden = model->hidden(on(device, in.draw), kGeneration);
  out.code_logits =
      model->depth(kGeneration)
          ->forward(hidden.index_select(0, in.draw_rows.to(device)), in.code_sums.to(device));
  out.draw_loss = cross_entropy_sum(out.code_logits.flatten(0, 1), in.draw_codes.to(device));
  return out;
}

void compare(Closeness& closeness, const Outputs& got, const Outputs& expected) {
  closeness.add("hidden states", got.hidden, expected.hidden);
  closeness.add("text logits", got.logits, expected.logits);
  closeness.add("text loss", got.read_loss, expected.read_loss);
  closeness.add("code logits", got.code_logits, expected.code_logits);
  closeness.add("code loss", got.draw_loss, expected.draw_loss);
}

}  // namespace

ModuleCheck check_decoder(at::Device device) {
  torch::manual_seed(20);
  YModel model(options());
  YModel other(options());
  copy_state(*other, *model);
  other->to(device);
  other->forget_cached_weights();
  const Inputs in = inputs();
  const Outputs expected = forward(model, in, at::kCPU);
  const Outputs got = forward(other, in, device);
  ModuleCheck check;
  compare(check.fp32, got, expected);
  (expected.read_loss / 100 + expected.draw_loss / 100).backward();
  (got.read_loss / 100 + got.draw_loss / 100).backward();
  check.fp32.add_gradients(*other, *model);

  const torch::NoGradGuard no_grad;
  const PrecisionGuard bf16(device.type(), "bf16");
  compare(check.bf16, forward(other, in, device), expected);
  return check;
}

}  // namespace espalier
