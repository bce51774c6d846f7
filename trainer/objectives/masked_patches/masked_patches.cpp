#include "trainer/objectives/masked_patches/masked_patches.h"

#include <torch/torch.h>

#include "data/order/random.h"
#include "models/masked_autoencoder/masking.h"
#include "trainer/models/seeded_start.h"
#include "trainer/named/image_stream.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

// Streams of random numbers that nothing else of a run uses.
constexpr uint64_t kMaskStream = 0x6d61736b2d747261ULL;
constexpr uint64_t kWeightSeed = 0x6d61736b2d696e69ULL;

}  // namespace

void fill_noise(at::Tensor row, uint64_t seed, uint64_t stream) {
  CounterRng random(seed, stream);
  auto* values = row.mutable_data_ptr<float>();
  for (int64_t p = 0; p < row.numel(); ++p) values[p] = static_cast<float>(random.uniform());
}

void MaskedPatchesSettings::declare(SettingsScope scope) {
  declare_data(scope);
  scope.add("teacher", teacher, {.help = "Name of the teacher; empty = reconstruction alone."});
  scope.add("flip", flip, {.help = "Mirror half of the training images left to right."});
  scope.add("mask_ratio", mask_ratio,
            {.help = "Share of patches that are hidden.", .min = 0, .max = 0.99});
  scope.add("width", width,
            {.help = "Channels of the light decoder of masked patches.",
             .unit = "channels",
             .min = 8,
             .max = 4096});
  SettingsScope weight = scope.below("weight");
  weight.add(
      "mimic", mimic,
      {.help = "Of the cosine distance to the teacher at visible patches.", .min = 0, .max = 1e6});
  weight.add("reconstruct", reconstruct,
             {.help = "Of the squared error of masked patches.", .min = 0, .max = 1e6});
}

void MaskedPatchesSettings::validate(const RunConfig& config, const std::string& where) const {
  ObjectiveSettings::validate(config, where);
  if (!teacher.empty()) config.teacher_named(teacher, where + ".teacher");
}

MaskedPatchesObjective::MaskedPatchesObjective(const ObjectiveContext& context)
    : settings_(settings_as<MaskedPatchesSettings>(context.objective.settings)),
      name_(context.objective.name),
      things_(context.things),
      model_(dynamic_cast<ResidualImageTokenizer&>(context.model)),
      seed_(static_cast<uint64_t>(context.run.seed)),
      order_seed_(context.order_seed),
      keep_(visible_count(model_.options().positions(), settings_.mask_ratio)) {
  const ImageTokenizerOptions& options = model_.options();
  const SeededStart seeded(seed_ ^ kWeightSeed);
  heads_ = MaskedPatches(MaskedPatchesOptions{.positions = options.positions(),
                                              .encoder_channels = 2 * options.width,
                                              .width = settings_.width,
                                              .teacher_channels = options.teacher_channels,
                                              .folds = options.folds});
  heads_->to(things_.device());
  teacher_mean_ = at::zeros({options.teacher_channels});
  if (!context.for_training) return;
  train_ = &things_.image_split(settings_.data, context.split);
  flips_ = settings_.flip && !context.is_measured();
  if (settings_.teacher.empty()) return;
  teacher_ =
      TeacherTargets(things_, model_, settings_.teacher, settings_.data, context.split, flips_);
  if (!context.is_measured()) teacher_mean_.copy_(teacher_.mean());  // else it comes with state()
}

std::vector<LossSpec> MaskedPatchesObjective::loss_specs() const {
  return {{"mimic", settings_.mimic}, {"reconstruct", settings_.reconstruct}};
}

std::vector<std::string> MaskedPatchesObjective::parameter_groups_used() const {
  return {model_.parameter_groups().front().name};
}

std::vector<ParameterGroup> MaskedPatchesObjective::parameter_groups() {
  return {{name_, heads_->parameters()}};
}

TensorMap MaskedPatchesObjective::state() {
  TensorMap state = {{"teacher_mean", teacher_mean_}};
  for (const auto& item : heads_->named_parameters()) state[item.key()] = item.value();
  return state;
}

std::string MaskedPatchesObjective::data_fingerprint() const {
  return train_ == nullptr ? "" : train_->fingerprint();
}

std::unique_ptr<ObjectiveBatch> MaskedPatchesObjective::load(const Turn& turn) {
  const ImageTokenizerOptions& options = model_.options();
  const int64_t count = turn.samples, positions = options.positions();
  auto batch = std::make_unique<MaskedPatchesBatch>();
  batch->images = at::empty({count, 3, options.image_size, options.image_size});
  batch->teacher = at::zeros({count, positions / 4, options.teacher_channels}, at::kBFloat16);
  const at::Tensor noise = at::empty({count, positions});
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = turn.first_sample() + i;
    const StreamedImage image = image_at(seed_, order_seed_, position, *train_, flips_);
    const at::Tensor levels = train_->levels(image.index);
    batch->images[i].copy_(image.mirrored ? levels.flip({2}) : levels);
    teacher_.load(image.index, image.mirrored, teacher_mean_, batch->teacher[i]);
    fill_noise(noise[i], seed_, combine_streams(kMaskStream, static_cast<uint64_t>(position)));
  }
  batch->images.div_(127.5).sub_(1.0);
  batch->grid =
      make_visible_grid(mask_from_noise(noise, keep_).visible().contiguous(), options.latent_size);
  const double taught = teacher_.is_there() ? 1.0 : 0.0;  // no targets without a teacher
  const auto pixels = static_cast<double>(batch->images.numel());
  batch->counts = {{"mimic", taught * static_cast<double>(count * keep_)},
                   {"reconstruct", pixels * static_cast<double>(positions - keep_) /
                                       static_cast<double>(positions)}};
  batch->positions = static_cast<double>(count * keep_);  // the hidden ones are left out
  return batch;
}

VisibleGrid MaskedPatchesObjective::grid_on_device(VisibleGrid grid) const {
  for (at::Tensor* tensor : {&grid.visible, &grid.fine_neighbours, &grid.coarse_neighbours}) {
    *tensor = tensor->to(things_.device(), /*non_blocking=*/true);
  }
  return grid;
}

std::vector<LossTerm> MaskedPatchesObjective::losses(const ObjectiveBatch& base) {
  const auto& batch = dynamic_cast<const MaskedPatchesBatch&>(base);
  const at::Device device = things_.device();
  const at::Tensor images = batch.images.to(device, /*non_blocking=*/true);
  const at::Tensor teacher =
      teacher_.of(batch.teacher.to(device, /*non_blocking=*/true), images, teacher_mean_);
  const MaskedPatchesLosses result = heads_->losses(
      model_.module()->encoder, image_to_patches(images), grid_on_device(batch.grid), teacher);
  return {{"mimic", result.mimic}, {"reconstruct", result.reconstruct}};
}

void add_masked_patches(Registry& registry) {
  registry.add(ObjectiveKind{
      .name = "masked_patches",
      .help = "Mimic a frozen teacher at the patches that are visible, reconstruct the pixels of "
              "those that are masked (MR-MAE).",
      .trains = "residual_image_tokenizer",
      .make_settings = [] { return std::make_shared<MaskedPatchesSettings>(); },
      .make =
          [](const ObjectiveContext& context) {
            return std::make_unique<MaskedPatchesObjective>(context);
          }});
}

}  // namespace espalier
