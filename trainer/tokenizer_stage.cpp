#include "trainer/tokenizer_stage.h"

#include <algorithm>

#include "data/order/random.h"
#include "data/order/sample_order.h"
#include "data/shards/shard_dataset.h"
#include "models/masked_autoencoder/masking.h"
#include "trainer/errors.h"
#include "trainer/teacher_features.h"
#include "trainer/tokenizer_evaluation.h"

namespace espalier {
namespace {

// Streams of random numbers that nothing else of a run uses.
constexpr uint64_t kSampleStream = 0x746f6b2d73616dULL;
constexpr uint64_t kRestartStream = 0x746f6b2d637362ULL;
constexpr uint64_t kWeightSeed = 0x746f6b2d696e69ULL;

// Half resolution of the latent: where the teacher's map lives.
int64_t teacher_side(const RunConfig& config) { return config.tokenizer.latent_size / 2; }

void check(const RunConfig& config) {
  const int64_t latent = config.tokenizer.latent_size;
  if (config.data.image_size != 4 * latent) {
    throw ConfigError("tokenizer.latent_size is " + std::to_string(latent) +
                      ", but data.image_size " + std::to_string(config.data.image_size) +
                      " asks for " + std::to_string(config.data.image_size / 4));
  }
  if (latent % 2 != 0) throw ConfigError("tokenizer.latent_size must be even");
  if (config.teacher.image_size != 32 * teacher_side(config)) {
    throw ConfigError("teacher.image_size is " + std::to_string(config.teacher.image_size) +
                      ", but a latent of " + std::to_string(latent) + " positions asks for " +
                      std::to_string(32 * teacher_side(config)));
  }
}

}  // namespace

ImageTokenizerOptions tokenizer_options(const RunConfig& config) {
  const TokenizerConfig& from = config.tokenizer;
  ImageTokenizerOptions options;
  options.image_size = config.data.image_size;
  options.latent_size = from.latent_size;
  options.latent_channels = from.latent_channels;
  options.codebook_size = from.codebook_size;
  options.pixel_stages = from.pixel_stages;
  options.semantic_stages = from.semantic_stages;
  options.width = from.width;
  options.encoder_blocks = from.encoder_blocks;
  options.decoder_blocks = from.decoder_blocks;
  options.masked_width = from.masked_width;
  options.codebook_decay = from.codebook_decay;
  options.restart_below = from.restart_below;
  return options;
}

TokenizerData read_tokenizer_data(const std::vector<std::string>& paths, const RunConfig& config) {
  const ShardDataset shards(paths, {.skip_bad_samples = config.data.on_bad_sample == "skip",
                                    .image_size = static_cast<int>(config.data.image_size)});
  TokenizerData data;
  data.fingerprint = shards.fingerprint();
  const int64_t side = config.data.image_size;
  data.images = at::empty({shards.size(), 3, side, side}, at::kByte);
  for (int64_t i = 0; i < shards.size(); ++i) {
    const Sample sample = shards.get(i);
    const at::Tensor levels =
        torch::from_blob(const_cast<uint8_t*>(sample.image.rgb.data()), {side, side, 3}, at::kByte);
    data.images[i].copy_(levels.permute({2, 0, 1}));
    data.groups.push_back(sample.group);
  }
  return data;
}

TokenizerStage::TokenizerStage(const StageContext& context)
    : config_(context.config), stage_(context.stage), device_(context.device) {
  check(config_);
  torch::manual_seed(static_cast<uint64_t>(config_.seed) ^ kWeightSeed);
  model_ = ImageTokenizer(tokenizer_options(config_));
  model_->to(device_);
  teacher_mean_ = at::zeros({model_->options().teacher_channels});
  statistics_ = model_->quantizer->new_statistics();
  evaluation_ = std::make_unique<TokenizerEvaluation>(config_, stage_, device_);
  if (!context.for_training) return;
  train_ = read_tokenizer_data(config_.data.train, config_);
  load_teacher(context);
}

TokenizerStage::~TokenizerStage() = default;

void TokenizerStage::load_teacher(const StageContext& context) {
  if (config_.teacher.weights.empty()) return;
  train_.teacher = teacher_features(context.comm, config_.teacher, train_.images,
                                    train_.fingerprint, config_.tokenizer.flip,
                                    teacher_cache_path(config_, "train"), context.on_work);
  teacher_mean_.copy_(centre_features(train_.teacher));
}

std::vector<ParameterGroup> TokenizerStage::parameter_groups() {
  return {{"tokenizer", model_->parameters()}};
}

std::vector<std::string> TokenizerStage::loss_names() const {
  return {"pixel", "commitment", "semantic", "mimic", "reconstruct"};
}

std::vector<double> TokenizerStage::loss_weights() const {
  std::vector<double> weights;
  for (const std::string& name : loss_names()) weights.push_back(stage_.loss.at(name));
  return weights;
}

std::unique_ptr<MicroBatch> TokenizerStage::load(int64_t step, int64_t slot) {
  const TokenizerConfig& config = config_.tokenizer;
  const ImageTokenizerOptions& options = model_->options();
  const auto seed = static_cast<uint64_t>(config_.seed);
  const int64_t count = stage_.micro_batch_size;
  const int64_t positions = options.positions();
  auto batch = std::make_unique<TokenizerMicroBatch>();
  batch->step = step;
  batch->slot = slot;
  batch->task = "reconstruct";
  batch->samples = count;
  batch->groups = {true};

  TokenizerBatch& inputs = batch->inputs;
  inputs.images = at::empty({count, 3, options.image_size, options.image_size});
  inputs.pixel_depth = at::empty({count}, at::kLong);
  inputs.semantic_depth = at::empty({count}, at::kLong);
  inputs.teacher = at::zeros({count, positions / 4, options.teacher_channels}, at::kBFloat16);
  at::Tensor noise = at::empty({count, positions});
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = step * stage_.batch_size + slot * count + i;
    const int64_t index = sample_at(seed, position, train_.size());
    CounterRng random(seed, combine_streams(kSampleStream, static_cast<uint64_t>(position)));
    const bool mirrored = config.flip && random.uniform() < 0.5;
    const at::Tensor image = train_.images[index];
    inputs.images[i].copy_(mirrored ? image.flip({2}) : image);
    if (train_.teacher.defined()) {
      inputs.teacher[i].copy_(train_.teacher[index][mirrored ? 1 : 0]);
    }
    // Uniform over fewer stages than all for the rest of the images.
    const auto depth = [&](double share_of_all, int64_t stages) {
      const bool all = random.uniform() < share_of_all || stages == 1;
      const auto fewer = 1 + random.below(static_cast<uint64_t>(std::max<int64_t>(stages - 1, 1)));
      return all ? stages : static_cast<int64_t>(fewer);
    };
    inputs.pixel_depth[i] = depth(config.all_pixel_stages, options.pixel_stages);
    inputs.semantic_depth[i] = depth(config.all_stages, options.stages());
    auto* row = noise[i].mutable_data_ptr<float>();
    for (int64_t p = 0; p < positions; ++p) row[p] = static_cast<float>(random.uniform());
  }
  inputs.images.div_(127.5).sub_(1.0);
  const int64_t keep = visible_count(positions, config.mask_ratio);
  inputs.grid =
      make_visible_grid(mask_from_noise(noise, keep).visible().contiguous(), options.latent_size);

  // Every dead code of every stage is offered one vector of the step, the same whoever asks: here
  // the rows that happen to lie in this slot.
  batch->candidate_rows = at::full({options.stages(), options.codebook_size}, -1, at::kLong);
  auto* rows = batch->candidate_rows.mutable_data_ptr<int64_t>();
  const int64_t slot_rows = count * positions;
  CounterRng random(seed, combine_streams(kRestartStream, static_cast<uint64_t>(step)));
  for (int64_t i = 0; i < batch->candidate_rows.numel(); ++i) {
    const auto row =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(stage_.slots() * slot_rows)));
    if (row / slot_rows == slot) rows[i] = row % slot_rows;
  }

  const auto pixels = static_cast<double>(inputs.images.numel());
  const double taught = train_.teacher.defined() ? 1.0 : 0.0;  // no targets without a teacher
  batch->target_counts = {
      pixels, static_cast<double>(slot_rows * options.stages() * options.latent_channels),
      taught * static_cast<double>(slot_rows / 4), taught * static_cast<double>(count * keep),
      pixels * static_cast<double>(positions - keep) / static_cast<double>(positions)};
  return batch;
}

std::vector<at::Tensor> TokenizerStage::losses(const MicroBatch& batch, int64_t /*step*/) {
  const auto& slot = dynamic_cast<const TokenizerMicroBatch&>(batch);
  TokenizerBatch inputs = slot.inputs;
  if (!device_.is_cpu()) {
    for (at::Tensor* tensor :
         {&inputs.images, &inputs.pixel_depth, &inputs.semantic_depth, &inputs.teacher,
          &inputs.grid.visible, &inputs.grid.fine_neighbours, &inputs.grid.coarse_neighbours}) {
      *tensor = tensor->to(device_, /*non_blocking=*/true);
    }
  }
  TokenizerLosses result = model_->losses(inputs);
  model_->quantizer->add_statistics(result.latents, result.quantized,
                                    slot.candidate_rows.to(device_), statistics_);
  return {result.pixel, result.commitment, result.semantic, result.mimic, result.reconstruct};
}

void TokenizerStage::after_optimizer(Communicator& comm, int64_t /*step*/) {
  comm.all_reduce(statistics_)->wait();
  model_->quantizer->update(statistics_);
  statistics_.zero_();
}

void TokenizerStage::skip_step(int64_t /*step*/) { statistics_.zero_(); }

TensorMap TokenizerStage::state() {
  TensorMap state;
  for (const auto& item : model_->named_parameters()) state[item.key()] = item.value();
  for (const auto& item : model_->named_buffers()) state[item.key()] = item.value();
  state["teacher_mean"] = teacher_mean_;
  return state;
}

nlohmann::json TokenizerStage::evaluate(Communicator& comm, const EvaluationRequest& request) {
  return evaluation_->run(model_, train_, teacher_mean_, comm, request);
}

std::unique_ptr<Stage> make_tokenizer_stage(const StageContext& context) {
  return std::make_unique<TokenizerStage>(context);
}

}  // namespace espalier
