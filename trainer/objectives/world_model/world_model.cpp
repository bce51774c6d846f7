#include "trainer/objectives/world_model/world_model.h"

#include <torch/torch.h>

#include "data/order/random.h"
#include "data/order/sample_order.h"
#include "models/layers/fused_ops.h"
#include "models/world_model/image_patches.h"
#include "models/world_model/world_losses.h"
#include "trainer/errors.h"
#include "trainer/objectives/world_model/dream_pictures.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr uint64_t kDrawStream = 0x776f726c642d64ULL;  // nothing else of a run uses it

// What is random about one window of `steps` steps: R draws each of noise, time and dropping.
class WindowDraws {
 public:
  WindowDraws(int64_t repeats, int64_t steps, int64_t chunk, int64_t size)
      : noise_(at::empty({repeats, steps, chunk, size})),
        time_(at::empty({repeats, steps}, at::kDouble)),
        dropped_(at::empty({repeats, steps}, at::kBool)) {}

  void fill(CounterRng& random, double dropout, int64_t diffusion_steps, bool is_flow) {
    auto* noise = noise_.mutable_data_ptr<float>();
    for (int64_t i = 0; i < noise_.numel(); ++i) noise[i] = static_cast<float>(random.normal());
    auto* time = time_.mutable_data_ptr<double>();
    auto* dropped = dropped_.mutable_data_ptr<bool>();
    for (int64_t i = 0; i < time_.numel(); ++i) {
      time[i] = is_flow ? random.uniform()
                        : static_cast<double>(random.below(static_cast<uint64_t>(diffusion_steps)));
      dropped[i] = random.uniform() < dropout;
    }
  }

  const at::Tensor& noise() const { return noise_; }
  const at::Tensor& time() const { return time_; }
  const at::Tensor& dropped() const { return dropped_; }

 private:
  at::Tensor noise_, time_, dropped_;
};

}  // namespace

WorldModelObjective::WorldModelObjective(const ObjectiveContext& context)
    : settings_(settings_as<WorldModelObjectiveSettings>(context.objective.settings)),
      name_(context.objective.name),
      things_(context.things),
      model_(dynamic_cast<WorldModel&>(context.model)),
      seed_(static_cast<uint64_t>(context.run.seed)),
      order_seed_(context.order_seed),
      precision_(context.stage.precision) {
  const int64_t ahead = model_.index().trajectories.ahead;
  if (dreams_of("trajectory") && settings_.future != ahead) {
    throw ConfigError(where_of(context) + ".future = " + std::to_string(settings_.future) +
                      ": the trajectories of " + model_.index().path + " are " +
                      std::to_string(ahead) + " steps ahead; set it to that");
  }
  semantic_mean_ = at::zeros({model_.settings().semantic_channels});
  if (dreams_of("semantic")) {
    semantic_.emplace(things_, model_,
                      SemanticOptions{.teacher = settings_.teacher,
                                      .memory_mib = settings_.feature_memory_mib,
                                      .asked_by = where_of(context)});
  }
  if (!context.for_training) return;
  train_ = &things_.episodes(model_.settings().episodes, context.split);
  const bool is_measured = context.is_measured();
  windows_.emplace(
      *train_, model_.settings().timesteps,
      is_measured ? EpisodeWindows::Order::kSideBySide : EpisodeWindows::Order::kEveryStart);
  dropout_ = is_measured ? 0 : settings_.condition_dropout;
  if (is_measured) return;  // the mean is that of the training split, in state()
  // A split without an episode of the tasks is found now, not when it is to be measured on.
  for (const char* split : {"validation", "test"})
    things_.episodes(model_.settings().episodes, split);
  if (semantic_) semantic_mean_.copy_(semantic_->measure_mean(*train_));
}

std::optional<size_t> WorldModelObjective::dream_index(const std::string& kind) const {
  const auto& dreams = model_.network()->options().dreams;
  for (size_t d = 0; d < dreams.size(); ++d) {
    if (dreams[d].kind == kind) return d;
  }
  return std::nullopt;
}

std::vector<LossSpec> WorldModelObjective::loss_specs() const {
  std::vector<LossSpec> specs = {{"action", settings_.action}};
  for (const DreamOptions& dream : model_.network()->options().dreams) {
    specs.push_back({dream.kind, settings_.weight_of(dream.kind)});
  }
  return specs;
}

// A loss without weight is measured, but trains nothing.
std::vector<std::string> WorldModelObjective::parameter_groups_used() const {
  std::vector<std::string> groups = {"trunk"};
  for (const LossSpec& loss : loss_specs()) {
    if (loss.weight > 0) groups.push_back(loss.name == "action" ? "action" : "dream." + loss.name);
  }
  return groups;
}

TensorMap WorldModelObjective::state() { return {{"semantic_mean", semantic_mean_}}; }

std::string WorldModelObjective::data_fingerprint() const {
  return train_ == nullptr ? "" : train_->index().fingerprint();
}

std::vector<at::Tensor*> WorldModelBatch::tensors() {
  WorldInputs& in = windows.inputs;
  return {&in.images,      &in.state,        &in.steps,
          &in.words,       &windows.actions, &windows.counted,
          &windows.future, &windows.depth,   &windows.trajectories,
          &region,         &semantic,        &draws.noise,
          &draws.time,     &draws.dropped,   &candidates,
          &counted_places, &wanted_actions};
}

std::unique_ptr<ObjectiveBatch> WorldModelObjective::load(const Turn& turn) {
  std::vector<EpisodeWindow> windows;
  std::vector<uint64_t> streams;
  for (int64_t i = 0; i < turn.samples; ++i) {
    const int64_t position = turn.first_sample() + i;
    windows.push_back(window_at(position));
    streams.push_back(combine_streams(kDrawStream, static_cast<uint64_t>(position)));
  }
  auto batch = make_batch(*train_, windows, streams, /*keep=*/true);
  if (semantic_ && settings_.semantic_loss == "info_nce") {
    const StepTargets& step = targets_of_step(turn);
    batch->candidates = step.rows;
    batch->first_candidate = step.first_rows.at(static_cast<size_t>(turn.of_step * turn.samples));
  }
  return batch;
}

EpisodeWindow WorldModelObjective::window_at(int64_t position) const {
  return windows_->at(sample_at(order_seed_, position, windows_->size()));
}

// Every rank makes those of all ranks: the loss must not depend on who trains what, and a teacher's
// features are kept. Costs the reading of the step's windows once more on each rank.
const WorldModelObjective::StepTargets& WorldModelObjective::targets_of_step(const Turn& turn) {
  if (step_targets_.step == turn.step) return step_targets_;
  const torch::NoGradGuard no_gradient;
  const int64_t first = turn.first_sample() - turn.of_step * turn.samples;
  StepTargets made{.step = turn.step, .rows = {}, .first_rows = {}};
  std::vector<at::Tensor> rows;
  int64_t count = 0;
  for (int64_t i = 0; i < turn.in_step * turn.samples; ++i) {
    const WindowBatch window =
        read_windows(*train_, model_, {window_at(first + i)}, settings_.future);
    rows.push_back(semantic_->make(window, semantic_mean_, /*keep=*/true).flatten(0, 1));
    made.first_rows.push_back(count);
    count += rows.back().size(0);
  }
  made.rows = at::cat(rows);
  step_targets_ = std::move(made);
  return step_targets_;
}

std::unique_ptr<WorldModelBatch> WorldModelObjective::make_batch(
    const EpisodeSet& set, const std::vector<EpisodeWindow>& windows,
    const std::vector<uint64_t>& streams, bool keep) {
  const torch::NoGradGuard no_gradient;
  auto batch = std::make_unique<WorldModelBatch>();
  batch->windows = read_windows(set, model_, windows, settings_.future);
  if (dreams_of("dynamic")) {
    batch->region = region_between(*this, batch->windows.inputs.images.flatten(0, 1),
                                   batch->windows.future.flatten(0, 1));
  }
  if (semantic_) batch->semantic = semantic_->make(batch->windows, semantic_mean_, keep);
  if (model_.has_diffusion()) {
    draw(*batch, streams);
  } else if (model_.is_discrete()) {
    list_wanted_actions(*batch);
  }
  count(*batch);
  batch->positions = static_cast<double>(std::ssize(windows) * model_.layout().rows());
  return batch;
}

void WorldModelObjective::draw(WorldModelBatch& batch, const std::vector<uint64_t>& streams) const {
  const WorldModelSettings& sizes = model_.settings();
  const bool is_flow = sizes.action_head == "flow";
  const at::Tensor sample = at::floor_divide(batch.windows.inputs.steps, sizes.timesteps);
  const at::Tensor steps = at::bincount(sample, {}, std::ssize(streams));
  std::vector<at::Tensor> noise, time, dropped;
  for (size_t b = 0; b < streams.size(); ++b) {
    CounterRng random(seed_, streams[b]);
    WindowDraws draws(settings_.noise_repeats, steps[static_cast<int64_t>(b)].item<int64_t>(),
                      sizes.action_queries, model_.index().action_size());
    draws.fill(random, dropout_, sizes.diffusion_steps, is_flow);
    noise.push_back(draws.noise());
    time.push_back(draws.time());
    dropped.push_back(draws.dropped());
  }
  const at::Tensor times = at::cat(time, 1).flatten();
  batch.draws = {.noise = at::cat(noise, 1).flatten(0, 1),
                 .time = times.to(is_flow ? at::kFloat : at::kLong),
                 .dropped = at::cat(dropped, 1).flatten()};
}

// Here and not in the loss: a GPU would have to tell the host how many there are.
void WorldModelObjective::list_wanted_actions(WorldModelBatch& batch) const {
  const WindowBatch& windows = batch.windows;
  batch.counted_places = at::nonzero(windows.counted.flatten()).flatten();
  batch.wanted_actions = windows.actions.argmax(2).flatten().index_select(0, batch.counted_places);
}

void WorldModelObjective::count(WorldModelBatch& batch) const {
  const auto actions = batch.windows.counted.sum().item<double>();
  const auto size = static_cast<double>(model_.index().action_size());
  double elements = model_.is_discrete() ? actions : actions * size;
  if (model_.has_diffusion()) {
    elements = actions * size * static_cast<double>(settings_.noise_repeats);
  }
  batch.counts = {{"action", elements}};
  const auto steps = static_cast<double>(batch.windows.steps());
  for (const DreamOptions& dream : model_.network()->options().dreams) {
    double targets = steps * static_cast<double>(dream.views);
    if (dream.kind == "dynamic") {
      targets = masked_count(
          batch.region, dream.decoder.patch_width,
          settings_.dynamic_mean == "all" ? MaskedMean::kAllElements : MaskedMean::kMaskedElements);
    } else if (dream.kind == "semantic") {
      targets *= static_cast<double>(dream.decoder.patches);
    } else if (dream.kind == "trajectory") {
      targets *= static_cast<double>(dream.decoder.patches * dream.decoder.patch_width);
    }
    batch.counts.push_back({dream.kind, targets});
  }
}

at::Tensor WorldModelObjective::dynamic_target(const at::Tensor& frames) const {
  const at::Tensor values = frame_values(frames);
  const int64_t patch = model_.settings().patch;
  return settings_.normalise_patches ? normalised_patches(values, patch)
                                     : to_patches(values, patch);
}

at::Tensor WorldModelObjective::trajectory_target(const WindowBatch& windows) const {
  return to_patches(windows.trajectories.flatten(0, 1),
                    model_.settings().patch / model_.index().trajectories.cell);
}

at::Tensor WorldModelObjective::action_loss(const WorldModelBatch& batch, const WorldInputs& inputs,
                                            const at::Tensor& hidden) {
  const at::Device device = things_.device();
  const at::Tensor rows = model_.network()->action_rows(hidden, inputs, model_.layout());
  const at::Tensor counted = batch.windows.counted.to(device);
  const at::Tensor actions = batch.windows.actions.to(device);
  if (model_.has_diffusion()) {
    return model_.network()->diffusion->loss(model_.to_head(actions), rows,
                                             {.noise = batch.draws.noise.to(device),
                                              .time = batch.draws.time.to(device),
                                              .dropped = batch.draws.dropped.to(device),
                                              .counted = counted});
  }
  const at::Tensor drawn =
      as_residual(model_.network()->direct->forward(rows.flatten(0, 1))).view_as(actions);
  if (!model_.is_discrete()) {
    return at::smooth_l1_loss(drawn, actions, at::Reduction::None).mul(counted.unsqueeze(2)).sum();
  }
  return cross_entropy_sum(drawn.flatten(0, 1).index_select(0, batch.counted_places.to(device)),
                           batch.wanted_actions.to(device));
}

at::Tensor WorldModelObjective::dream_loss(size_t d, const WorldModelBatch& batch,
                                           const at::Tensor& dreamt) const {
  const at::Device device = things_.device();
  const std::string& kind = model_.network()->options().dreams[d].kind;
  if (kind == "dynamic") {
    return masked_squared_error(dreamt,
                                dynamic_target(batch.windows.future.flatten(0, 1).to(device)),
                                batch.region.to(device));
  }
  if (kind == "depth") {
    const at::Tensor depth = batch.windows.depth.flatten(0, 1).unsqueeze(1).to(device);
    return silog(dreamt.flatten(1), to_patches(depth, model_.settings().patch).flatten(1),
                 settings_.silog_lambda);
  }
  if (kind == "trajectory") {
    return trajectory_error(dreamt, trajectory_target(batch.windows).to(device));
  }
  const at::Tensor features = dreamt.flatten(0, 1);
  const at::Tensor wanted = batch.semantic.to(device).flatten(0, 1);
  if (settings_.semantic_loss == "cosine") return cosine_distance(features, wanted);
  const at::Tensor candidates = batch.candidates.defined() ? batch.candidates.to(device) : wanted;
  const at::Tensor own = at::arange(batch.first_candidate, batch.first_candidate + wanted.size(0),
                                    at::TensorOptions().dtype(at::kLong).device(device));
  return info_nce(features, candidates, own, settings_.temperature);
}

std::vector<LossTerm> WorldModelObjective::losses(const ObjectiveBatch& base) {
  const auto& batch = dynamic_cast<const WorldModelBatch&>(base);
  const WorldInputs inputs = batch.windows.inputs.to(things_.device());
  WorldNetwork& network = model_.network();
  const at::Tensor hidden = network->hidden(inputs, model_.layout());
  std::vector<LossTerm> terms = {{"action", action_loss(batch, inputs, hidden)}};
  for (size_t d = 0; d < network->options().dreams.size(); ++d) {
    terms.push_back({network->options().dreams[d].kind,
                     dream_loss(d, batch, network->dream(hidden, inputs, model_.layout(), d))});
  }
  return terms;
}

void add_world_model_objective(Registry& registry) {
  registry.add(ObjectiveKind{
      .name = "world_model",
      .help = "Actions of experts in a simulator, and dreams of what moves, of depth and of "
              "meaning some steps ahead (DreamVLA).",
      .trains = "world_model",
      .make_settings = [] { return std::make_shared<WorldModelObjectiveSettings>(); },
      .make =
          [](const ObjectiveContext& context) {
            return std::make_unique<WorldModelObjective>(context);
          }});
}

}  // namespace espalier
