#include "trainer/trial.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/host/memory_use.h"
#include "trainer/memory_need.h"
#include "trainer/stage.h"
#include "trainer/update/optimizer.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

constexpr int64_t kSamples = 64;   // of each split
constexpr double kLongest_s = 20;  // of one stage: then what is known has to do
constexpr double kPlenty_s = 2;    // a micro-batch that takes so long is timed once, cold

using Clock = std::chrono::steady_clock;

// The objectives of a slot, which decide what it costs.
using Mix = std::vector<int64_t>;

std::string gib(double bytes) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f GiB", bytes / (1 << 30));
  return text.data();
}

struct MixOfStage {
  int64_t step = 0, slot = 0;  // the first of its slots
  double share = 0;            // of all slots
};

std::map<Mix, MixOfStage> mixes_of(const StepPlan& plan) {
  std::map<Mix, MixOfStage> mixes;
  for (int64_t number = 0; number < StepPlan::kPeriod; ++number) {
    const int64_t step = number / plan.slots(), slot = number % plan.slots();
    Mix mix;
    for (const Turn& turn : plan.turns(step, slot)) mix.push_back(turn.objective);
    const auto [found, is_new] = mixes.try_emplace(mix, MixOfStage{step, slot, 0});
    found->second.share += 1.0 / static_cast<double>(StepPlan::kPeriod);
  }
  return mixes;
}

class StageTrial {
 public:
  StageTrial(NamedThings& things, const StageConfig& config)
      : things_(things), config_(config), stage_(things, config, /*for_training=*/true) {}

  double peak_bytes() const { return peak_bytes_; }
  double activation_bytes() const { return activation_bytes_; }

  double step_s(int world_size) {
    const auto start = Clock::now();
    forget_peak_host_memory();
    double seconds = 0, tried = 0;  // of the shares
    for (const auto& [mix, where] : mixes_of(stage_.plan())) {
      if (tried > 0 && seconds_since(start) > kLongest_s) break;
      seconds += where.share * slot_s(where.step, where.slot);
      tried += where.share;
    }
    // Gradients are held by now, and activations are not.
    peak_bytes_ = static_cast<double>(recent_peak_host_memory());
    activation_bytes_ = std::max(0.0, peak_bytes_ - static_cast<double>(host_memory_now()));
    const double slots = static_cast<double>(config_.slots()) / world_size;
    return slots * seconds / tried + update_s();
  }

  // One micro-batch of each mix.
  void train_each() {
    for (const auto& [mix, where] : mixes_of(stage_.plan())) train_slot(where.step, where.slot);
  }

 private:
  double seconds_since(Clock::time_point start) const {
    if (things_.device().is_cuda()) torch::cuda::synchronize(things_.device().index());
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  double slot_s(int64_t step, int64_t slot) {
    constexpr int kTimed = 2;
    auto start = Clock::now();
    train_slot(step, slot);
    const double cold = seconds_since(start);
    if (cold > kPlenty_s) return cold;
    start = Clock::now();
    for (int i = 0; i < kTimed; ++i) train_slot(step, slot);
    return seconds_since(start) / kTimed;
  }

  void train_slot(int64_t step, int64_t slot) {
    stage_.begin_step(step);
    for (SlotBatch& pass : stage_.load_passes(step, slot)) train_pass(pass);
  }

  void train_pass(SlotBatch& batch) {
    batch.upload.send();
    std::vector<double> targets(stage_.losses().size(), 0.0);
    stage_.count_targets(batch, targets);
    at::Tensor total;
    {
      const PrecisionGuard guard(things_.device().type(), config_.precision);
      const std::vector<at::Tensor> sums = stage_.compute(batch);
      for (size_t i = 0; i < sums.size(); ++i) {
        if (!sums[i].defined() || targets[i] <= 0) continue;
        const at::Tensor term = sums[i] * (stage_.losses()[i].weight / targets[i]);
        total = total.defined() ? total + term : term;
      }
    }
    if (total.defined() && total.requires_grad()) total.backward();
  }

  double update_s() {
    const std::vector<bool> active = stage_.groups_in_step(0);
    Optimizer optimizer(stage_.parameter_groups(), stage_.parameter_names(), config_.optimizer);
    // A group that took no part above has no gradients to add up.
    for (const ParameterGroup& group : stage_.parameter_groups()) {
      for (at::Tensor parameter : group.parameters) {
        if (!parameter.grad().defined()) parameter.mutable_grad() = torch::zeros_like(parameter);
      }
    }
    const auto start = Clock::now();
    optimizer.update(active, /*learning_rate=*/0, optimizer.gradient_norm(active));
    stage_.after_update(things_.comm(), 0);
    const double taken = seconds_since(start);
    for (const ParameterGroup& group : stage_.parameter_groups()) {
      for (at::Tensor parameter : group.parameters) parameter.mutable_grad() = at::Tensor();
    }
    return taken;
  }

  NamedThings& things_;
  const StageConfig& config_;
  Stage stage_;
  double peak_bytes_ = 0, activation_bytes_ = 0;
};

// Of the splits that the stage reads, beyond the samples of a trial.
double more_pictures(NamedThings& things, const StageConfig& config) {
  double bytes = 0;
  std::set<std::string> seen;
  for (const ObjectiveConfig& objective : config.objectives) {
    const std::string& name = objective.settings->data;
    if (name.empty() || !seen.insert(name).second) continue;
    const DataConfig& data = things.config().data_named(name, "an objective");
    const double of_one = 3.0 * static_cast<double>(data.image_size * data.image_size);
    const auto more = static_cast<double>(
        std::max<int64_t>(0, things.image_split(name, "train").size() - kSamples));
    bytes += std::min(of_one * more, static_cast<double>(data.memory_mib) * (1 << 20));
  }
  return bytes;
}

// Micro-batches of few samples, then of four times as many, and so on, tell whether one as large as
// asked for fits into memory: trying it would get the process killed, without a word.
void require_memory_of_micro_batch(NamedThings& things, const StageConfig& config) {
  constexpr int64_t kFirst = 4, kFactor = 4;
  constexpr int64_t kManySamples = 64;  // beside these what is no sample's is little
  const auto before = static_cast<double>(peak_host_memory());
  for (int64_t samples = kFirst; samples < config.micro_batch_size; samples *= kFactor) {
    StageConfig fewer = config;
    fewer.micro_batch_size = samples;
    fewer.batch_size = config.slots() * samples;
    StageTrial(things, fewer).train_each();
    const double of_one =
        (static_cast<double>(peak_host_memory()) - before) / static_cast<double>(samples);
    const int64_t known = samples >= kManySamples
                              ? config.micro_batch_size
                              : std::min(samples * kFactor, config.micro_batch_size);
    const double needed = before + of_one * static_cast<double>(known);
    if (needed < memory_of_this_machine()) continue;
    throw ConfigError("stage." + config.name +
                      ".micro_batch_size = " + std::to_string(config.micro_batch_size) + ": " +
                      std::to_string(known) + " samples take about " + gib(needed) +
                      " (tried with " + std::to_string(samples) + "); this machine has " +
                      gib(memory_of_this_machine()) + " of memory; make it smaller");
  }
}

int64_t most_samples(NamedThings& things, const StageConfig& config) {
  int64_t most = 0;
  for (const ObjectiveConfig& objective : config.objectives) {
    const std::string& data = objective.settings->data;
    if (!data.empty()) most = std::max(most, things.image_split(data, "train").size());
  }
  return most;
}

}  // namespace

TrialTimes try_stage(NamedThings& things, const StageConfig& config, int world_size) {
  const int64_t all = most_samples(things, config);
  const double more = more_pictures(things, config);
  things.limit_samples(kSamples);
  const auto start = Clock::now();
  TrialTimes times;
  {
    StageTrial trial(things, config);
    const std::chrono::duration<double> prepared = Clock::now() - start;
    const auto samples = static_cast<double>(std::min(all, kSamples) * world_size);
    if (samples > 0) times.prepare_s = prepared.count() * static_cast<double>(all) / samples;
    require_memory_of_micro_batch(things, config);
    times.step_s = trial.step_s(world_size);
    times.peak_bytes = trial.peak_bytes();
    times.activation_bytes = trial.activation_bytes();
    times.more_pictures_bytes = more;
  }
  things.limit_samples(0);
  return times;
}

}  // namespace espalier
