#include "trainer/unified_stage.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>

#include "data/order/random.h"
#include "data/order/sample_order.h"
#include "models/layers/fused_ops.h"
#include "trainer/errors.h"
#include "trainer/tokenizer_stage.h"
#include "trainer/unified_evaluation.h"

namespace espalier {
namespace {

constexpr const char* kQuestion = "what group is this?";
constexpr int64_t kLongestCaption = 48;  // tokens, when writing one

std::vector<int64_t> widened(const std::vector<int32_t>& ids) { return {ids.begin(), ids.end()}; }

std::vector<double> task_weights(const StageConfig& stage) {
  std::vector<double> weights;
  for (const char* name : {"caption", "group", "draw"}) {
    const auto found = stage.tasks.find(name);
    weights.push_back(found == stage.tasks.end() ? 0.0 : found->second);
  }
  return weights;
}

ImageTokenizer find_tokenizer(const std::vector<Stage*>& earlier, const std::string& stage) {
  for (auto it = earlier.rbegin(); it != earlier.rend(); ++it) {
    if (auto* tokenizer = dynamic_cast<TokenizerStage*>(*it)) return tokenizer->tokenizer();
  }
  throw ConfigError("stage " + stage +
                    " needs a stage of kind \"tokenizer\" before it: it reads and draws images in "
                    "that tokenizer's codes");
}

}  // namespace

std::vector<int64_t> spread_indices(int64_t count, int64_t size) {
  const int64_t n = count == 0 ? size : std::min(count, size);
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < n; ++i) indices.push_back(i * size / n);
  return indices;
}

UnifiedStage::UnifiedStage(const StageContext& context)
    : config_(context.config),
      stage_(context.stage),
      device_(context.device),
      comm_(context.comm),
      on_work_(context.on_work),
      image_tokenizer_(find_tokenizer(context.earlier, context.stage.name)),
      schedule_(task_weights(context.stage), static_cast<uint64_t>(context.config.seed)) {
  train_.emplace(config_.data.train,
                 ShardDatasetOptions{.skip_bad_samples = config_.data.on_bad_sample == "skip",
                                     .image_size = static_cast<int>(config_.data.image_size),
                                     .required_fields = {"caption", "group"}});
  fingerprint_ = train_->fingerprint();
  drawn_ = spread_indices(config_.model.drawn_samples, train_->size());
  learn_text(context.for_training);
  make_model();
  state_changed();
  if (context.for_training) require_codes();
}

// The vocabulary and the groups are functions of the training texts, so every rank finds the same.
void UnifiedStage::learn_text(bool for_training) {
  std::vector<std::string> texts;
  std::set<std::string> groups;
  std::vector<Sample> samples;
  for (int64_t i = 0; i < train_->size(); ++i) {
    samples.push_back(train_->describe(i));
    texts.push_back(samples.back().caption);
    texts.insert(texts.end(), samples.back().keywords.begin(), samples.back().keywords.end());
    groups.insert(samples.back().group);
  }
  groups_.assign(groups.begin(), groups.end());
  // Groups and the question are asked all the time: as often as it takes to have tokens of their
  // own.
  for (int repeat = 0; repeat < 20; ++repeat) {
    texts.insert(texts.end(), groups_.begin(), groups_.end());
    texts.emplace_back(kQuestion);
  }
  const std::string path = config_.directory + "/text_tokenizer.json";
  if (!for_training && std::filesystem::exists(path)) {
    text_ = BytePairTokenizer::load(path);
  } else {
    text_ = BytePairTokenizer::train(texts, static_cast<int>(config_.text.vocabulary_size),
                                     SequenceTokens::special_tokens());
    if (for_training && comm_.rank() == 0 && std::filesystem::is_directory(config_.directory)) {
      text_->save(path + ".tmp");
      std::filesystem::rename(path + ".tmp", path);
    }
  }
  tokens_ = SequenceTokens::of(*text_);
  question_ = encode(kQuestion);
  for (const std::string& group : groups_) group_answers_.push_back(encode(group));
  for (const Sample& sample : samples) {
    captions_.push_back(encode(sample.caption));
    const auto at = std::lower_bound(groups_.begin(), groups_.end(), sample.group);
    group_of_.push_back(at - groups_.begin());
  }
}

void UnifiedStage::make_model() {
  const UnifiedConfig& m = config_.model;
  const ImageTokenizerOptions& image = image_tokenizer_->options();
  size_t longest_text = std::max<size_t>(question_.size() + 24, kLongestCaption);
  for (const auto& caption : captions_) longest_text = std::max(longest_text, caption.size());
  torch::manual_seed(static_cast<uint64_t>(config_.seed));
  model_ = YModel(
      YModelOptions{.width = m.width,
                    .heads = m.heads,
                    .kv_heads = m.kv_heads,
                    .feed_forward_width = m.feed_forward_width,
                    .trunk_layers = m.trunk_layers,
                    .understanding_layers = m.understanding_layers,
                    .generation_layers = m.generation_layers,
                    .longest_sequence = image.positions() + static_cast<int64_t>(longest_text) + 8,
                    .vocabulary_size = text_->vocabulary_size(),
                    .image_positions = image.positions(),
                    .code_channels = image.latent_channels,
                    .semantic_channels = image.semantic_channels(),
                    .stages = image.pixel_stages,
                    .codebook_size = image.codebook_size,
                    .depth_width = m.depth_width,
                    .depth_heads = m.depth_heads,
                    .depth_layers = m.depth_layers,
                    .depth_feed_forward_width = m.depth_feed_forward_width});
  model_->to(device_);
}

void UnifiedStage::require_codes() {
  if (!codes_.codes.defined()) {
    codes_ = encode_dataset(image_tokenizer_, *train_, comm_, device_, kViews, on_work_);
  }
}

std::vector<ParameterGroup> UnifiedStage::parameter_groups() {
  return {{"trunk", model_->trunk_parameters()},
          {"understanding", model_->branch_parameters(Branch::kUnderstanding)},
          {"generation", model_->branch_parameters(Branch::kGeneration)}};
}

std::vector<double> UnifiedStage::loss_weights() const {
  std::vector<double> weights;
  for (const std::string& name : loss_names()) {
    const auto found = stage_.loss.find(name);
    weights.push_back(found == stage_.loss.end() ? 1.0 : found->second);
  }
  return weights;
}

std::vector<int64_t> UnifiedStage::encode(const std::string& text) const {
  return widened(text_->encode(text));
}

std::vector<int64_t> UnifiedStage::prompt_of(Task task) const {
  if (task == kCaption) return {tokens_.caption};
  std::vector<int64_t> prompt = {tokens_.question};
  prompt.insert(prompt.end(), question_.begin(), question_.end());
  prompt.push_back(tokens_.answer);
  return prompt;
}

std::unique_ptr<MicroBatch> UnifiedStage::load(int64_t step, int64_t slot) {
  const auto seed = static_cast<uint64_t>(config_.seed);
  const int64_t size = stage_.micro_batch_size;
  const int64_t slot_number = step * stage_.slots() + slot;
  const TaskSchedule::Turn turn = schedule_.at(slot_number);
  auto batch = std::make_unique<Batch>();
  batch->step = step;
  batch->slot = slot;
  batch->kind = static_cast<Task>(turn.task);
  batch->task = loss_names()[static_cast<size_t>(turn.task)];
  batch->samples = size;
  batch->groups = {true, batch->kind != kDraw, batch->kind == kDraw};

  CounterRng rng(seed, combine_streams(0x62617463, static_cast<uint64_t>(slot_number)));
  const auto order_seed = combine_streams(seed, static_cast<uint64_t>(turn.task) + 1);
  SequencePacker packer(tokens_, model_->options().image_positions);
  std::vector<int64_t> samples, views;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t position = turn.earlier * size + i;
    const int64_t sample = batch->kind == kDraw
                               ? drawn_[static_cast<size_t>(sample_at(
                                     order_seed, position, static_cast<int64_t>(drawn_.size())))]
                               : sample_at(order_seed, position, train_->size());
    const auto s = static_cast<size_t>(sample);
    int64_t view = static_cast<int64_t>(rng.below(kViews));
    const double drop = rng.uniform();
    if (batch->kind == kDraw) {
      view = 0;  // a name belongs to one picture
      packer.add_draw(drop < config_.model.condition_dropout ? std::vector{tokens_.null}
                                                             : captions_[s]);
    } else if (batch->kind == kCaption) {
      if (is_mirrored(view)) --view;
      packer.add_read(prompt_of(kCaption), captions_[s]);
    } else {
      packer.add_read(prompt_of(kGroup), group_answers_[static_cast<size_t>(group_of_[s])]);
    }
    samples.push_back(sample);
    views.push_back(view);
  }
  batch->rows = packer.rows();
  batch->target_rows = packer.target_rows();
  batch->targets = packer.targets();
  batch->samples_of = torch::tensor(samples, torch::kLong);
  batch->views_of = torch::tensor(views, torch::kLong);
  batch->target_counts.assign(kTasks, 0.0);
  batch->target_counts[static_cast<size_t>(turn.task)] =
      static_cast<double>(packer.target_count()) *
      (batch->kind == kDraw ? static_cast<double>(model_->options().stages) : 1.0);
  return batch;
}

TokenRows UnifiedStage::to_device(TokenRows rows) const {
  for (torch::Tensor* t : {&rows.text_ids, &rows.positions, &rows.sources}) *t = t->to(device_);
  return rows;
}

void UnifiedStage::set_image_inputs(TokenRows& rows, const torch::Tensor& codes,
                                    const torch::Tensor& semantics) const {
  rows.code_sums = sum_codes(codebooks_, codes).select(0, codebooks_.size(0) - 1).flatten(0, 1);
  if (semantics.defined()) rows.semantics = semantics.flatten(0, 1).to(torch::kFloat);
}

std::vector<at::Tensor> UnifiedStage::losses(const MicroBatch& batch, int64_t /*step*/) {
  require_codes();
  const auto& mine = dynamic_cast<const Batch&>(batch);
  return mine.kind == kDraw ? draw_losses(mine) : read_losses(mine);
}

std::vector<at::Tensor> UnifiedStage::read_losses(const Batch& batch) {
  TokenRows rows = to_device(batch.rows);
  const torch::Tensor views = batch.views_of.to(device_);
  const torch::Tensor samples = batch.samples_of.to(device_);
  set_image_inputs(rows, codes_.codes.index({views, samples}),
                   codes_.semantics.index({views, samples}));
  const torch::Tensor hidden = model_->hidden(rows, Branch::kUnderstanding);
  const torch::Tensor logits =
      model_->text_logits(hidden.index_select(0, batch.target_rows.to(device_)));
  const torch::Tensor loss = cross_entropy_sum(logits, batch.targets.to(device_));
  return batch.kind == kCaption ? std::vector<at::Tensor>{loss, {}, {}}
                                : std::vector<at::Tensor>{{}, loss, {}};
}

torch::Tensor UnifiedStage::draw_logits(const TokenRows& rows, const torch::Tensor& target_rows,
                                        const torch::Tensor& code_sums) {
  const torch::Tensor hidden =
      model_->hidden(rows, Branch::kGeneration).index_select(0, target_rows);
  return model_->depth()->forward(hidden, code_sums.narrow(0, 0, code_sums.size(0) - 1));
}

std::vector<at::Tensor> UnifiedStage::draw_losses(const Batch& batch) {
  TokenRows rows = to_device(batch.rows);
  const torch::Tensor codes = codes_.codes.index(
      {batch.views_of.to(device_), batch.samples_of.to(device_)});  // (B, P, stages)
  const torch::Tensor sums = sum_codes(codebooks_, codes);          // (S, B, P, C)
  const int64_t stages = sums.size(0);
  const int64_t positions = sums.size(2);
  rows.code_sums =
      sums.select(0, stages - 1).narrow(1, 0, positions - 1).reshape({-1, sums.size(3)});
  const torch::Tensor logits =
      draw_logits(rows, batch.target_rows.to(device_), sums.flatten(1, 2));  // (S, B*P, K)
  const torch::Tensor targets =
      codes.narrow(2, 0, stages).permute({2, 0, 1}).reshape(-1).to(torch::kLong);
  return {{}, {}, cross_entropy_sum(logits.flatten(0, 1), targets)};
}

void UnifiedStage::after_optimizer(Communicator& /*comm*/, int64_t /*step*/) {
  model_->forget_cached_weights();
}

TensorMap UnifiedStage::state() {
  TensorMap state;
  for (const auto& parameter : model_->named_parameters()) {
    state[parameter.key()] = parameter.value();
  }
  return state;
}

void UnifiedStage::state_changed() {
  model_->forget_cached_weights();
  codebooks_ = scaled_codebooks(image_tokenizer_).to(device_);
}

std::string UnifiedStage::data_fingerprint() const { return fingerprint_; }

SamplingOptions UnifiedStage::default_sampling() const {
  return {.guidance = config_.model.guidance,
          .temperature = config_.model.temperature,
          .top_k = config_.model.top_k,
          .top_p = config_.model.top_p};
}

std::vector<std::string> UnifiedStage::caption(const std::vector<Image>& images) {
  std::vector<Image> fitted;
  for (const Image& image : images) {
    fitted.push_back(fit_square(image, static_cast<int>(image_tokenizer_->options().image_size)));
  }
  const ImageCodes codes = encode_images(image_tokenizer_, images_to_tensor(fitted).to(device_), 1);
  return write_captions(*this, codes.codes[0], codes.semantics[0], kLongestCaption);
}

torch::Tensor UnifiedStage::draw_codes(const std::vector<std::string>& texts,
                                       const std::vector<int64_t>& streams,
                                       const SamplingOptions& sampling, uint64_t seed) {
  TORCH_CHECK(streams.size() == texts.size(), "one stream for each text");
  const YModelOptions& shape = model_->options();
  const auto count = static_cast<int64_t>(texts.size());
  std::vector<std::vector<int64_t>> prompts;
  torch::Tensor uniforms = torch::empty({count, shape.image_positions, shape.stages});
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int64_t> prompt = {tokens_.draw};
    const auto name = encode(texts[static_cast<size_t>(i)]);
    prompt.insert(prompt.end(), name.begin(), name.end());
    // Room for the picture itself must remain in the rotary table.
    prompt.resize(std::min(
        prompt.size(), static_cast<size_t>(shape.longest_sequence - shape.image_positions - 1)));
    prompts.push_back(std::move(prompt));
    CounterRng rng(
        seed, combine_streams(0x64726177, static_cast<uint64_t>(streams[static_cast<size_t>(i)])));
    float* u = uniforms[i].data_ptr<float>();
    for (int64_t k = 0; k < shape.image_positions * shape.stages; ++k) {
      u[k] = static_cast<float>(rng.uniform());
    }
  }
  return espalier::draw_codes(model_, prompts, {tokens_.draw, tokens_.null}, codebooks_,
                              uniforms.to(device_), sampling);
}

std::vector<Image> UnifiedStage::draw(const std::vector<std::string>& texts,
                                      const SamplingOptions& sampling, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  std::vector<int64_t> streams(texts.size());
  std::iota(streams.begin(), streams.end(), int64_t{0});
  return tensor_to_images(
      image_tokenizer_->decode_pixels(draw_codes(texts, streams, sampling, seed)));
}

nlohmann::json UnifiedStage::evaluate(Communicator& comm, const EvaluationRequest& request) {
  const torch::NoGradGuard no_grad;
  return evaluate_unified(*this, config_, comm, request);
}

std::unique_ptr<Stage> make_unified_stage(const StageContext& context) {
  return std::make_unique<UnifiedStage>(context);
}

}  // namespace espalier
