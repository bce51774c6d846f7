#include "trainer/objectives/world_model/open_loop.h"

#include <cmath>
#include <map>

#include <torch/torch.h>

#include "data/images/contact_sheet.h"
#include "data/images/image_codec.h"
#include "data/order/random.h"
#include "models/teachers/feature_losses.h"
#include "models/world_model/image_patches.h"
#include "trainer/evaluation/shares.h"
#include "trainer/evaluation/standard_error.h"
#include "trainer/named/spread_indices.h"
#include "trainer/objectives/world_model/dream_pictures.h"
#include "trainer/record/evaluation_files.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

constexpr uint64_t kEvaluationStream = 0x776f726c642d65ULL;  // nothing else of a run uses it
constexpr int64_t kMeanEpisodes = 128;
constexpr int64_t kPictures = 12;

// Numbers of each window, by name: sums over what it has, and how many that are.
class WindowTable {
 public:
  void add(const std::string& name) {
    const auto place = static_cast<int64_t>(columns_.size());
    columns_.emplace(name, place);
  }
  int64_t width() const { return std::ssize(columns_); }
  int64_t place(const std::string& name) const { return columns_.at(name); }
  bool has(const std::string& name) const { return columns_.contains(name); }

  at::Tensor rows;  // (windows, width) double

  at::Tensor column(const std::string& name) const { return rows.select(1, place(name)); }
  double total(const std::string& name) const { return column(name).sum().item<double>(); }
  double ratio(const std::string& sum, const std::string& count) const {
    return total(sum) / total(count);
  }
  // Of the ratio, over windows that have any.
  double spread(const std::string& sum, const std::string& count) const {
    const at::Tensor counts = column(count), has_any = counts.gt(0);
    return standard_error_of_mean(
        to_numbers((column(sum) / counts.clamp_min(1)).masked_select(has_any)));
  }

 private:
  std::map<std::string, int64_t> columns_;
};

class OpenLoop {
 public:
  OpenLoop(WorldModelObjective& objective, const EpisodeSet& set, const EpisodeWindows& windows,
           const TrainingMeans& means)
      : objective_(objective),
        model_(objective.model()),
        set_(set),
        windows_(windows),
        means_(means) {
    for (const LossSpec& loss : objective.loss_specs()) {
      table_.add("loss/" + loss.name);
      table_.add("targets/" + loss.name);
    }
    for (const char* name : {"steps", "action", "action/mean", "action/last"}) table_.add(name);
    for (const DreamOptions& dream : model_.network()->options().dreams) {
      for (const char* part : {"", "/count", "/present", "/mean"}) table_.add(dream.kind + part);
    }
  }

  WindowTable measure() {
    table_.rows = gather_rows(
                      objective_.things().comm(), windows_.size(), {table_.width()},
                      [&](const at::Tensor& indices) { return measure_rows(indices); },
                      "evaluation: world model, open loop", objective_.things().on_work())
                      .to(at::kDouble);
    return std::move(table_);
  }

 private:
  at::Tensor measure_rows(const at::Tensor& indices) {
    const PrecisionGuard guard(model_.device().type(), objective_.precision());
    std::vector<EpisodeWindow> windows;
    std::vector<uint64_t> streams;
    for (int64_t i = 0; i < indices.size(0); ++i) {
      const auto window = indices[i].item<int64_t>();
      windows.push_back(windows_.at(window));
      streams.push_back(combine_streams(kEvaluationStream, static_cast<uint64_t>(window)));
    }
    const auto batch = objective_.make_batch(set_, windows, streams, /*keep=*/false);
    rows_ = at::zeros({indices.size(0), table_.width()});
    sample_ = at::floor_divide(batch->windows.inputs.steps, model_.settings().timesteps);
    add_losses(*batch);
    const WorldInputs inputs = batch->windows.inputs.to(model_.device());
    const at::Tensor hidden = model_.network()->hidden(inputs, model_.layout());
    add_actions(*batch, inputs, hidden, streams);
    for (size_t d = 0; d < model_.network()->options().dreams.size(); ++d) {
      const std::string& kind = model_.network()->options().dreams[d].kind;
      const at::Tensor dreamt =
          model_.network()->dream(hidden, inputs, model_.layout(), d).to(at::kCPU);
      if (kind == "dynamic") add_dynamic(batch->windows, batch->region, dreamt);
      if (kind == "depth") add_depth(batch->windows, dreamt);
      if (kind == "trajectory") add_trajectory(batch->windows, dreamt);
      if (kind == "semantic") add_semantic(windows, batch->semantic, dreamt);
    }
    return rows_;
  }

  // Losses are sums over a batch: they stand in the row of its first window.
  void add_losses(const WorldModelBatch& batch) {
    for (const LossTerm& term : objective_.losses(batch)) {
      rows_[0][table_.place("loss/" + term.name)] = term.sum.to(at::kCPU);
    }
    for (const LossCount& count : batch.counts) {
      rows_[0][table_.place("targets/" + count.name)] = count.targets;
    }
  }

  // values (M * n): of each step, or of each view of each step.
  void add(const std::string& name, const at::Tensor& values) {
    const at::Tensor by_step = values.reshape({sample_.size(0), -1}).sum(1).to(at::kFloat);
    rows_.select(1, table_.place(name)).index_add_(0, sample_, by_step);
  }

  // Of right actions, or of squared errors of a continuous one.
  at::Tensor score(const at::Tensor& actions, const at::Tensor& truth) const {
    if (model_.is_discrete()) return actions.argmax(1).eq(truth.argmax(1)).to(at::kFloat);
    return (actions - truth).square().mean(1);
  }

  void add_actions(const WorldModelBatch& batch, const WorldInputs& inputs,
                   const at::Tensor& hidden, const std::vector<uint64_t>& streams) {
    const at::Tensor condition = model_.network()->action_rows(hidden, inputs, model_.layout());
    at::Tensor noise = at::empty(batch.windows.actions.sizes(), at::kFloat);
    auto* value = noise.mutable_data_ptr<float>();
    for (int64_t m = 0; m < sample_.size(0); ++m) {
      const auto step = static_cast<uint64_t>(batch.windows.inputs.steps[m].item<int64_t>() %
                                              model_.settings().timesteps);
      CounterRng random(
          objective_.seed(),
          combine_streams(streams[static_cast<size_t>(sample_[m].item<int64_t>())], step + 1));
      for (int64_t i = 0; i < noise[m].numel(); ++i) {
        *value++ = static_cast<float>(random.normal());
      }
    }
    const at::Tensor truth = batch.windows.actions.select(1, 0);
    const at::Tensor mean = means_.action.expand_as(truth);
    const at::Tensor& last = batch.windows.previous;
    const at::Tensor is_first = last.eq(0).all(1, true);
    add("steps", at::ones({sample_.size(0)}));
    add("action", score(model_.act(condition, noise).to(at::kCPU).select(1, 0), truth));
    add("action/mean", score(mean, truth));
    add("action/last", score(at::where(is_first, mean, last), truth));
  }

  void add_dynamic(const WindowBatch& windows, const at::Tensor& region, const at::Tensor& dreamt) {
    const at::Tensor truth = objective_.dynamic_target(windows.future.flatten(0, 1));
    const auto error = [&](const at::Tensor& guess) {
      return (guess - truth).square().mean(2).mul(region).sum(1);
    };
    const at::Tensor mean = objective_.dynamic_target(means_.frame);
    add("dynamic", error(dreamt));
    add("dynamic/present", error(objective_.dynamic_target(windows.inputs.images.flatten(0, 1))));
    add("dynamic/mean", error(mean.repeat({windows.steps(), 1, 1})));
    add("dynamic/count", region.sum(1));
  }

  // Mean of |prediction - depth| / depth over the pixels of a view.
  void add_depth(const WindowBatch& windows, const at::Tensor& dreamt) {
    const at::Tensor truth = windows.depth.flatten(0, 1);
    const auto error = [&](const at::Tensor& guess) {
      return ((guess - truth).abs() / truth.clamp_min(1e-3)).mean({1, 2});
    };
    add("depth", error(from_patches(dreamt, model_.settings().patch).squeeze(1)));
    add("depth/present", error(windows.present_depth.flatten(0, 1)));
    add("depth/mean", error(means_.depth.repeat({windows.steps(), 1, 1})));
    add("depth/count", at::ones({truth.size(0)}));
  }

  // Mean squared distance between where a point went and where it was dreamt to go.
  void add_trajectory(const WindowBatch& windows, const at::Tensor& dreamt) {
    const at::Tensor truth = objective_.trajectory_target(windows);
    const auto error = [&](const at::Tensor& guess) {
      return 2 * (guess - truth).square().mean({1, 2});
    };
    add("trajectory", error(dreamt));
    add("trajectory/present", error(at::zeros_like(truth)));
    add("trajectory/mean", error(means_.trajectory.repeat({windows.steps(), 1, 1})));
    add("trajectory/count", at::ones({truth.size(0)}));
  }

  void add_semantic(const std::vector<EpisodeWindow>& windows, const at::Tensor& truth,
                    const at::Tensor& dreamt) {
    add("semantic", cosine_of_rows(dreamt, truth));
    add("semantic/present",
        cosine_of_rows(objective_.semantic_targets(read_windows(set_, model_, windows, 0)), truth));
    add("semantic/count", at::ones({truth.size(0) * truth.size(1)}));
  }

  WorldModelObjective& objective_;
  WorldModel& model_;
  const EpisodeSet& set_;
  const EpisodeWindows& windows_;
  const TrainingMeans& means_;
  WindowTable table_;
  at::Tensor rows_, sample_;  // of the batch: (windows, width); (M) int64, the window of each step
};

void add_losses(const WorldModelObjective& objective, const WindowTable& table, Section& section) {
  Series series{.name = "loss",
                .label = "losses on held-out episodes",
                .axis = "loss",
                .places = {},
                .values = {}};
  for (const LossSpec& loss : objective.loss_specs()) {
    series.places.push_back(loss.name);
    series.values.push_back(table.ratio("loss/" + loss.name, "targets/" + loss.name));
  }
  section.series.push_back(std::move(series));
}

void add_actions(const WorldModel& model, const WindowTable& table, Section& section) {
  if (model.is_discrete()) {
    const double share = table.ratio("action", "steps");
    section.metrics.push_back(
        {.name = "action_accuracy",
         .label = "actions that are the expert's, open loop",
         .value = share,
         .standard_error =
             standard_error_of_share(share, static_cast<int64_t>(table.total("steps"))),
         .baselines = {{"the most frequent action", table.ratio("action/mean", "steps")},
                       {"the action before", table.ratio("action/last", "steps")}}});
    return;
  }
  const auto root = [&](const char* name) { return std::sqrt(table.ratio(name, "steps")); };
  section.metrics.push_back(
      {.name = "action_rmse",
       .label = "root mean squared error of the expert's action, open loop",
       .value = root("action"),
       .standard_error = table.spread("action", "steps") / (2 * root("action")),
       .baselines = {{"the mean action", root("action/mean")},
                     {"the action before", root("action/last")}},
       .is_lower_better = true});
}

void add_dreams(const WorldModelObjective& objective, const WindowTable& table, Section& section) {
  const auto add = [&](const std::string& kind, Metric metric, const std::string& mean,
                       const std::string& present = "the present frame") {
    metric.value = table.ratio(kind, kind + "/count");
    metric.standard_error = table.spread(kind, kind + "/count");
    metric.baselines = {{present, table.ratio(kind + "/present", kind + "/count")},
                        {mean, table.ratio(kind + "/mean", kind + "/count")}};
    section.metrics.push_back(std::move(metric));
  };
  if (objective.dreams_of("dynamic")) {
    add("dynamic",
        {.name = "dynamic_error",
         .label = objective.settings().normalise_patches
                      ? "mean squared error where something moves, normalised patches"
                      : "mean squared error where something moves, of values in [-1, 1]",
         .is_lower_better = true},
        "the mean training frame");
  }
  if (objective.dreams_of("depth")) {
    add("depth",
        {.name = "depth_error",
         .label = "relative error of depth, mean of |dreamt - true| / true",
         .is_lower_better = true},
        "the mean training depth");
  }
  if (objective.dreams_of("trajectory")) {
    add("trajectory",
        {.name = "trajectory_error",
         .label = "mean squared distance of dreamt points from where they went, cells of " +
                  std::to_string(objective.model().index().trajectories.cell) + " pixels",
         .is_lower_better = true},
        "the mean training motion", "nothing moves");
  }
  if (objective.dreams_of("semantic")) {
    add("semantic",
        {.name = "semantic_cosine", .label = "cosine to the future's semantic features"},
        "the mean feature");
  }
}

}  // namespace

TrainingMeans training_means(WorldModelObjective& objective) {
  const WorldModel& model = objective.model();
  const EpisodeSet& train = objective.things().episodes(model.settings().episodes, "train");
  std::vector<EpisodeWindow> windows;
  for (const int64_t episode : spread_indices(kMeanEpisodes, train.size())) {
    windows.push_back({episode, train.steps(episode) / 2});
  }
  const WindowBatch batch = read_windows(train, model, windows, 0);
  TrainingMeans means{.action = torch::tensor(model.index().action_mean, at::kFloat),
                      .frame = batch.future.to(at::kFloat).mean(0).round().to(at::kByte),
                      .depth = {},
                      .trajectory = {}};
  if (batch.depth.defined()) means.depth = batch.depth.mean(0);
  if (objective.dreams_of("trajectory")) {
    const at::Tensor moves = objective.trajectory_target(batch);
    means.trajectory = moves.view({batch.steps(), -1, moves.size(1), moves.size(2)}).mean(0);
  }
  return means;
}

void measure_open_loop(WorldModelObjective& objective, const EpisodeSet& set,
                       const EpisodeWindows& windows, const TrainingMeans& means,
                       Section& section) {
  const WindowTable table = OpenLoop(objective, set, windows, means).measure();
  add_actions(objective.model(), table, section);
  add_dreams(objective, table, section);
  add_losses(objective, table, section);
}

void paint_open_loop(WorldModelObjective& objective, const EpisodeSet& set,
                     const EpisodeWindows& windows, const EvaluationRequest& request,
                     Section& section) {
  WorldModel& model = objective.model();
  std::vector<EpisodeWindow> chosen;
  for (const int64_t i : spread_indices(kPictures, windows.size())) chosen.push_back(windows.at(i));
  const WindowBatch batch = read_windows(set, model, chosen, objective.settings().future);
  WorldInputs inputs = batch.inputs.to(model.device());
  const at::Tensor hidden = model.network()->hidden(inputs, model.layout());
  // The first step of each window.
  const at::Tensor first =
      at::nonzero(batch.inputs.steps.remainder(model.settings().timesteps).eq(0)).flatten();
  inputs.steps = inputs.steps.index_select(0, first.to(model.device()));
  const auto of_view = [&](const at::Tensor& frames) {
    return frames.index_select(0, first).select(1, 0);
  };
  std::vector<std::vector<Image>> rows;
  std::string legend = "Held-out steps, first view.";
  if (const auto d = objective.dream_index("dynamic")) {
    const at::Tensor now = of_view(batch.inputs.images), future = of_view(batch.future);
    const int64_t views = model.network()->options().views;
    const at::Tensor dreamt = model.network()->dream(hidden, inputs, model.layout(), *d).cpu();
    rows.push_back(tensor_to_images(frame_values(now)));
    rows.push_back(tensor_to_images(frame_values(future)));
    rows.push_back(tensor_to_images(paint_dream(
        objective, now, dreamt.view({-1, views, dreamt.size(1), dreamt.size(2)}).select(1, 0),
        region_between(objective, now, future))));
    legend += " Rows: now; " + std::to_string(objective.settings().future) +
              " steps later; what was dreamt of that, where it differs.";
  }
  if (const auto d = objective.dream_index("depth")) {
    const at::Tensor depth = of_view(batch.depth);
    const int64_t views = model.network()->options().dreams[*d].views;
    const at::Tensor dreamt =
        from_patches(model.network()->dream(hidden, inputs, model.layout(), *d).cpu(),
                     model.settings().patch)
            .view({-1, views, depth.size(1), depth.size(2)});
    const double farthest = depth.max().item<double>();
    rows.push_back(depth_images(depth, farthest));
    rows.push_back(depth_images(dreamt.select(1, 0), farthest));
    legend += " Rows of depth: true then, and dreamt.";
  }
  if (rows.empty()) return;
  const std::string path = request.directory + "/" + request.picture_prefix + "dreams.png";
  save_picture(path, contact_sheet(rows));
  section.pictures.push_back({"dreams", path, legend});
}

}  // namespace espalier
