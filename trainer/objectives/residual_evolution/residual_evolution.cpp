#include "trainer/objectives/residual_evolution/residual_evolution.h"

#include <algorithm>

#include <torch/torch.h>

#include "data/order/random.h"
#include "trainer/named/image_stream.h"
#include "trainer/named/spread_indices.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr uint64_t kRestartStream = 0x746f6b2d637362ULL;  // nothing else of a run uses it

// All stages for a share of the images, uniform over fewer of them for the rest.
int64_t random_depth(CounterRng& random, double share_of_all, int64_t stages) {
  const bool all = random.uniform() < share_of_all || stages == 1;
  const auto fewer = 1 + random.below(static_cast<uint64_t>(std::max<int64_t>(stages - 1, 1)));
  return all ? stages : static_cast<int64_t>(fewer);
}

}  // namespace

void ResidualEvolutionSettings::declare(SettingsScope scope) {
  declare_data(scope);
  scope.add("teacher", teacher, {.help = "Name of the teacher; empty = pixels alone."});
  scope.add("label_field", label_field,
            {.help = "Field of a sample by which evaluation asks whether like images lie near each "
                     "other."});
  scope.add("flip", flip, {.help = "Mirror half of the training images left to right."});
  scope.add("all_pixel_stages", all_pixel_stages,
            {.help = "Share of images whose pixel decoder reads every pixel stage; the others any "
                     "smaller number.",
             .min = 0,
             .max = 1});
  scope.add("all_stages", all_stages,
            {.help = "Share of images whose semantic decoder reads every stage; the others any "
                     "smaller number.",
             .min = 0,
             .max = 1});
  SettingsScope weight = scope.below("weight");
  weight.add("pixel", pixel,
             {.help = "Of the squared error of the decoded pixels.", .min = 0, .max = 1e6});
  weight.add("commitment", commitment,
             {.help = "Of the distance from the latent to its codes.", .min = 0, .max = 1e6});
  weight.add("semantic", semantic,
             {.help = "Of the cosine distance to the teacher's features.", .min = 0, .max = 1e6});
}

void ResidualEvolutionSettings::validate(const RunConfig& config, const std::string& where) const {
  ObjectiveSettings::validate(config, where);
  if (!teacher.empty()) config.teacher_named(teacher, where + ".teacher");
}

ResidualEvolution::ResidualEvolution(const ObjectiveContext& context)
    : settings_(settings_as<ResidualEvolutionSettings>(context.objective.settings)),
      name_(context.objective.name),
      things_(context.things),
      model_(dynamic_cast<ResidualImageTokenizer&>(context.model)),
      seed_(static_cast<uint64_t>(context.run.seed)),
      order_seed_(context.order_seed) {
  const ImageTokenizerOptions& options = model_.options();
  teacher_mean_ = at::zeros({options.teacher_channels});
  statistics_ = model_.module()->quantizer->new_statistics();
  if (!context.for_training) return;
  train_ = &things_.image_split(settings_.data, context.split);
  flips_ = settings_.flip && !context.is_measured();
  if (!has_teacher()) return;
  teacher_ =
      TeacherTargets(things_, model_, settings_.teacher, settings_.data, context.split, flips_);
  if (!context.is_measured()) teacher_mean_.copy_(teacher_.mean());  // else it comes with state()
}

std::vector<LossSpec> ResidualEvolution::loss_specs() const {
  return {{"pixel", settings_.pixel},
          {"commitment", settings_.commitment},
          {"semantic", settings_.semantic}};
}

std::vector<std::string> ResidualEvolution::parameter_groups_used() const {
  return {model_.parameter_groups().front().name};
}

std::string ResidualEvolution::data_fingerprint() const {
  return train_ == nullptr ? "" : train_->fingerprint();
}

std::unique_ptr<ObjectiveBatch> ResidualEvolution::load(const Turn& turn) {
  const ImageTokenizerOptions& options = model_.options();
  const int64_t count = turn.samples, positions = options.positions();
  auto batch = std::make_unique<ResidualEvolutionBatch>();
  TokenizerBatch& inputs = batch->inputs;
  inputs.images = at::empty({count, 3, options.image_size, options.image_size});
  inputs.pixel_depth = at::empty({count}, at::kLong);
  inputs.semantic_depth = at::empty({count}, at::kLong);
  inputs.teacher = at::zeros({count, positions / 4, options.teacher_channels}, at::kBFloat16);
  for (int64_t i = 0; i < count; ++i) {
    StreamedImage image = image_at(seed_, order_seed_, turn.first_sample() + i, *train_, flips_);
    const at::Tensor levels = train_->levels(image.index);
    inputs.images[i].copy_(image.mirrored ? levels.flip({2}) : levels);
    teacher_.load(image.index, image.mirrored, teacher_mean_, inputs.teacher[i]);
    inputs.pixel_depth[i] =
        random_depth(image.random, settings_.all_pixel_stages, options.pixel_stages);
    inputs.semantic_depth[i] = random_depth(image.random, settings_.all_stages, options.stages());
  }
  inputs.images.div_(127.5).sub_(1.0);
  batch->candidate_rows = candidate_rows(turn);

  const auto pixels = static_cast<double>(inputs.images.numel());
  const auto rows = static_cast<double>(count * positions);
  const double taught = teacher_.is_there() ? 1.0 : 0.0;  // no targets without a teacher
  batch->counts = {
      {"pixel", pixels},
      {"commitment", rows * static_cast<double>(options.stages() * options.latent_channels)},
      {"semantic", taught * rows / 4}};
  batch->positions = rows;
  return batch;
}

// Every dead code of every stage is offered one vector of the step, the same whoever asks: here
// the rows that happen to lie in this slot.
at::Tensor ResidualEvolution::candidate_rows(const Turn& turn) const {
  const ImageTokenizerOptions& options = model_.options();
  const at::Tensor candidates = at::full({options.stages(), options.codebook_size}, -1, at::kLong);
  auto* rows = candidates.mutable_data_ptr<int64_t>();
  const int64_t slot_rows = turn.samples * options.positions();
  CounterRng random(seed_, combine_streams(kRestartStream, static_cast<uint64_t>(turn.step)));
  for (int64_t i = 0; i < candidates.numel(); ++i) {
    const auto row =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(turn.in_step * slot_rows)));
    if (row / slot_rows == turn.of_step) rows[i] = row % slot_rows;
  }
  return candidates;
}

std::vector<LossTerm> ResidualEvolution::losses(const ObjectiveBatch& base) {
  const auto& batch = dynamic_cast<const ResidualEvolutionBatch&>(base);
  const at::Device device = things_.device();
  TokenizerBatch inputs = batch.inputs;
  for (at::Tensor* tensor :
       {&inputs.images, &inputs.pixel_depth, &inputs.semantic_depth, &inputs.teacher}) {
    *tensor = tensor->to(device, /*non_blocking=*/true);
  }
  inputs.teacher = teacher_.of(inputs.teacher, inputs.images, teacher_mean_);
  TokenizerLosses result = model_.module()->losses(inputs);
  model_.module()->quantizer->add_statistics(result.latents, result.quantized,
                                             batch.candidate_rows.to(device), statistics_);
  return {
      {"pixel", result.pixel}, {"commitment", result.commitment}, {"semantic", result.semantic}};
}

void ResidualEvolution::after_update(Communicator& comm, const at::Tensor& applies) {
  comm.all_reduce(statistics_)->order_stream();
  model_.module()->quantizer->update(statistics_, applies);
  statistics_.zero_();
}

Section ResidualEvolution::evaluate(const EvaluationRequest& request) {
  return evaluate_residual_evolution(*this, request);
}

void add_residual_evolution(Registry& registry) {
  registry.add(ObjectiveKind{
      .name = "residual_evolution",
      .help = "Early residual stages toward pixels, all of them toward a frozen teacher (EvoTok).",
      .trains = "residual_image_tokenizer",
      .make_settings = [] { return std::make_shared<ResidualEvolutionSettings>(); },
      .make =
          [](const ObjectiveContext& context) {
            return std::make_unique<ResidualEvolution>(context);
          }});
}

}  // namespace espalier
