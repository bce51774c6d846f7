#include "trainer/objectives/draw/draw.h"

#include <torch/torch.h>

#include "data/order/random.h"
#include "data/order/sample_order.h"
#include "models/layers/fused_ops.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/named/spread_indices.h"
#include "trainer/objectives/slot_draws.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr uint64_t kHiddenStream = 0x68696465;  // nothing else of a run uses it

}  // namespace

void DrawSettings::declare(SettingsScope scope) {
  declare_data(scope);
  scope.add("branch", branch, {.help = "Branch of the model that predicts the codes."});
  scope.add("weight", weight, {.help = "Weight of the loss.", .min = 0, .max = 1e6});
  scope.add("samples", samples,
            {.help = "Train on this many of the training images, evenly spread; 0 = all.",
             .unit = "images",
             .min = 0,
             .max = 1e12});
  scope.add("condition_dropout", condition_dropout,
            {.help = "Share of captions replaced by the null condition, so that drawing can be "
                     "guided.",
             .min = 0,
             .max = 1});
  scope.add(
      "hidden_codes", hidden_codes,
      {.help = "While it trains, each picture's positions are hidden from those after them with "
               "a probability drawn between 0 and this, so that it draws from the caption and "
               "not from memory of how pictures go on.",
       .min = 0,
       .max = 1});
  scope.add("guidance", sampling.guidance,
            {.help = "Classifier-free guidance of drawing; 1 = off, which halves its cost.",
             .min = 0,
             .max = 100});
  scope.add(
      "plausibility", sampling.plausibility,
      {.help = "With guidance above 1: codes that the caption alone finds less likely than this "
               "part of its likeliest are left out, since guidance lifts what both find as good "
               "as impossible; 0 = none.",
       .min = 0,
       .max = 1});
  scope.add("temperature", sampling.temperature,
            {.help = "Of the draws of codes; 0 = always the most likely.", .min = 0, .max = 100});
  scope.add("top_k", sampling.top_k,
            {.help = "Draw among this many most likely codes; 0 = all.",
             .unit = "codes",
             .min = 0,
             .max = 1000000});
  scope.add("top_p", sampling.top_p,
            {.help = "Draw among the fewest codes whose probabilities reach this sum.",
             .min = 0,
             .max = 1});
}

Draw::Draw(const ObjectiveContext& context)
    : settings_(settings_as<DrawSettings>(context.objective.settings)),
      name_(context.objective.name),
      things_(context.things),
      model_(dynamic_cast<YDecoder&>(context.model)),
      branch_(model_.module()->branch_index(settings_.branch)),
      seed_(static_cast<uint64_t>(context.run.seed)),
      order_seed_(context.order_seed) {
  if (!context.for_training) return;
  train_ = &things_.image_split(settings_.data, context.split);
  is_measured_ = context.is_measured();
  if (settings_.samples > 0 && !is_measured_) drawn_ = drawn(train_->size());
  inputs_ = ImageInputs(things_, model_.image_tokenizer_name(), settings_.data, context.split,
                        is_measured_ ? 1 : kViews);
}

std::vector<int64_t> Draw::drawn(int64_t size) const {
  return spread_indices(settings_.samples, size);
}

std::vector<std::string> Draw::parameter_groups_used() const {
  return {"trunk", branch_group(settings_.branch)};
}

std::string Draw::data_fingerprint() const {
  return train_ == nullptr ? "" : train_->fingerprint();
}

// Which positions of a turn's pictures are seen by those after them: a function of the seed and the
// sample's place in the stream.
at::Tensor Draw::shown_positions(const Turn& turn) const {
  const int64_t positions = model_.image_positions() - 1;
  at::Tensor shown = torch::ones({turn.samples * positions, 1});
  float* out = shown.data_ptr<float>();
  for (int64_t i = 0; i < turn.samples; ++i) {
    CounterRng random(
        seed_, combine_streams(kHiddenStream, static_cast<uint64_t>(turn.first_sample() + i)));
    const double hidden = settings_.hidden_codes * random.uniform();
    for (int64_t p = 0; p < positions; ++p) {
      if (random.uniform() < hidden) out[i * positions + p] = 0;
    }
  }
  return shown;
}

std::unique_ptr<ObjectiveBatch> Draw::load(const Turn& turn) {
  auto batch = std::make_unique<DrawBatch>();
  const SequenceTokens& tokens = model_.text().tokens();
  SlotDraws draws(seed_, turn);
  SequencePacker packer(tokens, model_.image_positions());
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < turn.samples; ++i) {
    const int64_t position = turn.first_sample() + i;
    const int64_t sample =
        drawn_.empty()
            ? train_->sample_at(order_seed_, position)
            : drawn_[static_cast<size_t>(sample_at(order_seed_, position, std::ssize(drawn_)))];
    const bool is_dropped = !is_measured_ && draws.next().dropout < settings_.condition_dropout;
    packer.add_draw(is_dropped ? std::vector{tokens.null}
                               : model_.encode_cut(train_->describe(sample).caption()));
    samples.push_back(sample);
  }
  batch->rows = packer.rows();
  batch->rows.mask.prepare(model_.device());
  batch->target_rows = packer.target_rows();
  if (settings_.hidden_codes > 0 && !is_measured_) batch->shown = shown_positions(turn);
  // A name belongs to one picture: the image as stored.
  batch->images = inputs_.rows(samples, std::vector<int64_t>(samples.size(), 0));
  batch->counts = {{"", static_cast<double>(packer.target_count()) *
                            static_cast<double>(model_.module()->options().stages)}};
  batch->positions = static_cast<double>(batch->rows.sources.numel());
  return batch;
}

std::vector<LossTerm> Draw::losses(const ObjectiveBatch& base) {
  const auto& batch = dynamic_cast<const DrawBatch&>(base);
  const at::Device device = model_.device();
  TokenRows rows = model_.to_device(batch.rows);
  const at::Tensor codes = inputs_.codes(batch.images).codes;    // (B, P, stages)
  const at::Tensor sums = sum_codes(model_.codebooks(), codes);  // (S, B, P, C)
  const int64_t stages = sums.size(0), positions = sums.size(2);
  rows.code_sums =
      sums.select(0, stages - 1).narrow(1, 0, positions - 1).reshape({-1, sums.size(3)});
  if (batch.shown.defined()) rows.code_sums = rows.code_sums * batch.shown.to(device);
  const at::Tensor logits = model_.draw_logits(rows, branch_, batch.target_rows.to(device),
                                               sums.flatten(1, 2));  // (S, B*P, K)
  const at::Tensor targets =
      codes.narrow(2, 0, stages).permute({2, 0, 1}).reshape(-1).to(at::kLong);
  return {{"", cross_entropy_sum(logits.flatten(0, 1), targets)}};
}

Section Draw::evaluate(const EvaluationRequest& request) { return evaluate_draw(*this, request); }

void add_draw(Registry& registry) {
  registry.add(ObjectiveKind{
      .name = "draw",
      .help = "Read a caption, predict the residual codes of the image through a codes branch "
              "(UniFork).",
      .trains = "y_decoder",
      .make_settings = [] { return std::make_shared<DrawSettings>(); },
      .make = [](const ObjectiveContext& context) { return std::make_unique<Draw>(context); }});
}

}  // namespace espalier
