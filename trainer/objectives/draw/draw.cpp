#include "trainer/objectives/draw/draw.h"

#include <algorithm>

#include <torch/torch.h>

#include "data/order/random.h"
#include "data/order/sample_order.h"
#include "models/layers/fused_ops.h"
#include "trainer/errors.h"
#include "trainer/models/residual_image_tokenizer.h"
#include "trainer/named/spread_indices.h"
#include "trainer/objectives/slot_draws.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

// Nothing else of a run uses these.
constexpr uint64_t kHiddenStream = 0x68696465;
constexpr uint64_t kTurnStream = 0x647261772d74ULL;

// As a caption is told, or as a picture is asked for in a conversation.
std::vector<int64_t> null_prompt(const SequenceTokens& tokens, const DrawSettings& settings) {
  if (settings.is_of_messages()) return {tokens.null, tokens.draw};
  return {tokens.draw, tokens.null};
}

std::vector<int64_t> without_text(const SequenceTokens& tokens, const std::vector<int64_t>& ids) {
  std::vector<int64_t> left(static_cast<size_t>(std::count(ids.begin(), ids.end(), kPicture)),
                            kPicture);
  left.insert(left.end(), {tokens.null, tokens.draw});
  return left;
}

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
  scope.add("condition", condition,
            {.help = "What it draws from: the caption; or messages, all that was said and shown "
                     "before the assistant shows a picture, so that pictures are edited or a "
                     "conversation goes on.",
             .choices = {"caption", "messages"}});
  const auto add_dropout = [&](const std::string& name, double& field, const std::string& help) {
    scope.add(name, field, {.help = help, .min = 0, .max = 1});
  };
  add_dropout("condition_dropout", condition_dropout,
              "Share of conditions replaced by the null condition, so that drawing can be guided.");
  add_dropout("text_dropout", text_dropout,
              "Share of conversations whose pictures alone are left, so that they can guide by "
              "themselves (picture_guidance).");
  add_dropout("picture_dropout", picture_dropout,
              "Share of conversations whose texts alone are left.");
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
  scope.add("picture_guidance", sampling.picture_guidance,
            {.help = "Guidance by the pictures of a conversation; 0 = as much as by its texts. "
                     "Differs from guidance where training had text_dropout.",
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

void DrawSettings::validate(const RunConfig& config, const std::string& where) const {
  ObjectiveSettings::validate(config, where);
  const double dropped = condition_dropout + text_dropout + picture_dropout;
  if (dropped > 1) {
    throw ConfigError(where +
                      ": condition_dropout, text_dropout and picture_dropout are shares of "
                      "the same samples and add up to " +
                      std::to_string(dropped) + "; at most 1 fits");
  }
  const char* const other = text_dropout > 0                ? "text_dropout"
                            : picture_dropout > 0           ? "picture_dropout"
                            : sampling.picture_guidance > 0 ? "picture_guidance"
                                                            : nullptr;
  if (!is_of_messages() && other != nullptr) {
    throw ConfigError(where + "." + other +
                      " is for condition = \"messages\", whose texts and "
                      "pictures can be told apart; a caption has "
                      "condition_dropout and guidance");
  }
}

DrawPrompt draw_prompt(const SequenceTokens& tokens, const DrawSettings& settings,
                       const std::vector<int64_t>& ids, const at::Tensor& code_sums) {
  DrawPrompt prompt{.ids = ids, .null = null_prompt(tokens, settings), .code_sums = code_sums};
  if (settings.is_of_messages()) prompt.without_text = without_text(tokens, ids);
  return prompt;
}

DrawPrompt caption_prompt(const YDecoder& model, const DrawSettings& settings,
                          const std::string& caption) {
  std::vector<int64_t> ids = model.encode(caption);
  ids.insert(ids.begin(), model.text().tokens().draw);
  return draw_prompt(model.text().tokens(), settings, ids, {});
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

DrawCase Draw::case_of(const Sample& sample, int64_t position) const {
  if (!settings_.is_of_messages()) return last_case(sample);
  const std::vector<MessagePlace> places = assistant_parts(sample.messages, /*is_picture=*/true);
  CounterRng random(seed_, combine_streams(kTurnStream, static_cast<uint64_t>(position)));
  const MessagePlace place = places.at(random.below(places.size()));
  return {prompt_before(model_, sample.messages, place),
          sample.messages[place.message].parts[place.part].picture};
}

DrawCase Draw::last_case(const Sample& sample) const {
  if (settings_.is_of_messages()) {
    const MessagePlace place = assistant_parts(sample.messages, /*is_picture=*/true).back();
    return {prompt_before(model_, sample.messages, place),
            sample.messages[place.message].parts[place.part].picture};
  }
  std::vector<int64_t> ids = model_.encode_cut(sample.caption());
  ids.insert(ids.begin(), model_.text().tokens().draw);
  return {{ids, {}}, 0};
}

// Leaves out all of a prompt, its texts or its pictures, by a number drawn from [0, 1).
void Draw::drop(Prompt& prompt, double uniform) const {
  const SequenceTokens& tokens = model_.text().tokens();
  if (uniform < settings_.condition_dropout) {
    prompt = {null_prompt(tokens, settings_), {}};
  } else if (uniform < settings_.condition_dropout + settings_.text_dropout) {
    prompt.ids = without_text(tokens, prompt.ids);
  } else if (uniform <
             settings_.condition_dropout + settings_.text_dropout + settings_.picture_dropout) {
    std::erase(prompt.ids, kPicture);
    prompt.pictures.clear();
  }
}

// Which positions of a turn's pictures are seen by those after them: a function of the seed and the
// sample's place in the stream. Pictures of prompts are seen whole.
at::Tensor Draw::shown_positions(const Turn& turn,
                                 const std::vector<int64_t>& pictures_before) const {
  const int64_t positions = model_.image_positions();
  std::vector<float> shown;
  for (int64_t i = 0; i < turn.samples; ++i) {
    CounterRng random(
        seed_, combine_streams(kHiddenStream, static_cast<uint64_t>(turn.first_sample() + i)));
    const double hidden = settings_.hidden_codes * random.uniform();
    const int64_t before = pictures_before[static_cast<size_t>(i)] * positions;
    shown.insert(shown.end(), static_cast<size_t>(before), 1.0F);
    for (int64_t p = 0; p + 1 < positions; ++p) {
      shown.push_back(random.uniform() < hidden ? 0.0F : 1.0F);
    }
  }
  return torch::tensor(shown).unsqueeze(1);
}

std::unique_ptr<ObjectiveBatch> Draw::load(const Turn& turn) {
  auto batch = std::make_unique<DrawBatch>();
  SlotDraws draws(seed_, turn);
  SequencePacker packer(model_.text().tokens(), model_.image_positions());
  std::vector<PictureView> pictures;
  std::vector<int64_t> pictures_before;
  for (int64_t i = 0; i < turn.samples; ++i) {
    const int64_t position = turn.first_sample() + i;
    const int64_t sample =
        drawn_.empty()
            ? train_->sample_at(order_seed_, position)
            : drawn_[static_cast<size_t>(sample_at(order_seed_, position, std::ssize(drawn_)))];
    auto [prompt, target] = case_of(train_->describe(sample), position);
    if (!is_measured_) drop(prompt, draws.next().dropout);
    packer.add_draw(prompt.ids);
    pictures_before.push_back(std::ssize(prompt.pictures));
    // What is said belongs to the pictures as they are stored.
    for (const int64_t picture : prompt.pictures) pictures.push_back({sample, picture, 0});
    pictures.push_back({sample, target, 0});
  }
  batch->rows = packer.rows();
  batch->rows.mask.prepare(model_.device());
  batch->target_rows = packer.target_rows();
  batch->drawn = packer.drawn();
  if (settings_.hidden_codes > 0 && !is_measured_) {
    batch->shown = shown_positions(turn, pictures_before);
  }
  batch->images = inputs_.rows(pictures);
  batch->counts = {{"", static_cast<double>(packer.target_count()) *
                            static_cast<double>(model_.module()->options().stages)}};
  batch->positions = static_cast<double>(batch->rows.sources.numel());
  return batch;
}

std::vector<LossTerm> Draw::losses(const ObjectiveBatch& base) {
  const auto& batch = dynamic_cast<const DrawBatch&>(base);
  const at::Device device = model_.device();
  TokenRows rows = model_.to_device(batch.rows);
  const at::Tensor all = inputs_.codes(batch.images).codes;  // (pictures, P, stages)
  model_.set_image_inputs(rows, all, {});
  if (batch.shown.defined()) rows.code_sums = rows.code_sums * batch.shown.to(device);
  const at::Tensor codes = all.index_select(0, batch.drawn.to(device));  // (B, P, stages)
  const at::Tensor sums = sum_codes(model_.codebooks(), codes);          // (S, B, P, C)
  const int64_t stages = sums.size(0);
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
      .help = "Read a caption, or a conversation with its pictures, predict the residual codes of "
              "the image through a codes branch (UniFork).",
      .trains = "y_decoder",
      .make_settings = [] { return std::make_shared<DrawSettings>(); },
      .make = [](const ObjectiveContext& context) { return std::make_unique<Draw>(context); }});
}

}  // namespace espalier
