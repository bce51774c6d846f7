#include "trainer/update/step_loop.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/update/precision.h"
#include "trainer/update/schedule.h"

namespace espalier {
namespace {

// What averaged weights cover: parameters, then codebooks and the like.
std::unique_ptr<WeightAverage> make_average(Stage& stage) {
  std::vector<at::Tensor> tensors;
  std::vector<std::string> names = stage.parameter_names();
  for (const ParameterGroup& group : stage.parameter_groups()) {
    tensors.insert(tensors.end(), group.parameters.begin(), group.parameters.end());
  }
  for (const auto& [name, buffer] : stage.averaged_buffers()) {
    tensors.push_back(buffer);
    names.push_back(name);
  }
  return std::make_unique<WeightAverage>(std::move(tensors), names, stage.config().ema_decay);
}

}  // namespace

StepLoop::StepLoop(Stage& stage, Communicator& comm, RunObserver& observer,
                   Checkpointer& checkpointer, StepLoopOptions options)
    : stage_(stage),
      comm_(comm),
      observer_(observer),
      checkpointer_(checkpointer),
      options_(std::move(options)),
      clock_(observer),
      meter_(stage.losses()) {
  const std::vector<ParameterGroup>& groups = stage_.parameter_groups();
  optimizer_ =
      std::make_unique<Optimizer>(groups, stage_.parameter_names(), stage_.config().optimizer);
  average_ = make_average(stage_);
  reducer_ = std::make_unique<GradientReducer>(
      comm_, groups,
      ReducerOptions{static_cast<int64_t>(options_.config.compute.bucket_mib * (1 << 20))});
}

StepLoop::~StepLoop() = default;

TensorMap StepLoop::state() const {
  TensorMap state;
  for (auto& [name, tensor] : optimizer_->state()) state["optimizer/" + name] = tensor;
  for (auto& [name, tensor] : average_->state()) state["average/" + name] = tensor;
  return state;
}

void StepLoop::set_position(int64_t steps_done, int64_t bad_steps) {
  steps_done_ = steps_done;
  bad_steps_ = bad_steps;
  first_bad_step_ = steps_done - bad_steps;
}

bool StepLoop::step() {
  clock_.enter(Phase::kData);
  if (!prefetcher_) {
    prefetcher_ = std::make_unique<Prefetcher<StepBatches>>(
        [this](int64_t step) { return load_step(step); }, steps_done_, stage_.config().steps,
        static_cast<int>(options_.config.compute.prefetch));
  }
  const StepBatches batches = prefetcher_->next();
  clock_.enter(Phase::kAgree);
  const Agreement agreed = agree_on(batches);
  if (agreed.wants_to_stop > 0) {
    clock_.leave();
    return false;
  }
  targets_ = agreed.targets;
  active_ = stage_.groups_in_step(steps_done_);
  clock_.enter(Phase::kForwardBackward);
  forward_backward(batches);
  clock_.enter(Phase::kReduce);
  reducer_->finish();
  clock_.enter(Phase::kOptimizer);
  const bool applied = apply_gradients();
  clock_.enter(Phase::kStatistics);
  if (applied) {
    stage_.after_update(comm_, steps_done_);
    average_->update(steps_done_);
  } else {
    stage_.skip_update();
  }
  ++steps_done_;
  unreported_->step = steps_done_;
  clock_.leave();
  return true;
}

// On the prefetch thread. This rank's slots of the step: rank r of W has the r-th of W equal parts.
StepLoop::StepBatches StepLoop::load_step(int64_t step) {
  const int64_t per_rank = stage_.config().slots() / comm_.size();
  StepBatches batches;
  for (int64_t i = 0; i < per_rank; ++i) {
    batches.push_back(stage_.load(step, comm_.rank() * per_rank + i));
  }
  return batches;
}

Agreement StepLoop::agree_on(const StepBatches& batches) {
  const size_t losses = stage_.losses().size();
  Agreement mine(losses);
  for (const SlotBatch& batch : batches) stage_.count_targets(batch, mine.targets);
  mine.loss_sums = loss_numbers(sums_, losses);
  mine.wants_to_stop = observer_.stop_requested() ? 1.0 : 0.0;
  mine.writing_checkpoint = checkpointer_.pending();
  const Agreement all = agree(comm_, mine);
  publish(all.loss_sums);
  checkpointer_.advance(all.writing_checkpoint);
  return all;
}

void StepLoop::forward_backward(const StepBatches& batches) {
  sums_.assign(stage_.losses().size(), {});
  unreported_ = StepReport{};
  reducer_->start_step(active_);
  for (size_t i = 0; i < batches.size(); ++i) {
    at::Tensor total;
    {
      const PrecisionGuard guard(options_.device.type(), stage_.config().precision);
      total = weighted_total(stage_.compute(batches[i]));
    }
    if (!total.defined() || !total.requires_grad()) continue;
    if (i + 1 == batches.size()) reducer_->expect_last_backward(stage_.groups_in_slot(batches[i]));
    // A loss that is not finite can have finite gradients. Seeding backward with nan makes it show
    // in the sum of gradients, and so on every rank, without another message.
    const at::Tensor seed = torch::ones_like(total).masked_fill_(
        at::isfinite(total.detach()).logical_not(), std::numeric_limits<double>::quiet_NaN());
    total.backward(seed);
  }
}

at::Tensor StepLoop::weighted_total(const std::vector<at::Tensor>& sums) {
  const std::vector<StageLoss>& losses = stage_.losses();
  at::Tensor total;
  for (size_t i = 0; i < losses.size(); ++i) {
    if (!sums[i].defined() || targets_[i] <= 0) continue;
    const at::Tensor sum = sums[i].detach();
    sums_[i] = sums_[i].defined() ? sums_[i] + sum : sum;
    const double weight = losses[i].weight * stage_.share_of_step(losses[i], steps_done_);
    if (weight == 0) continue;
    const at::Tensor term = sums[i] * (weight / targets_[i]);
    total = total.defined() ? total + term : term;
  }
  return total;
}

// False: gradients were not finite, and nothing was changed. The norm is the same on every rank, as
// summed gradients are, so all take the same turn.
bool StepLoop::apply_gradients() {
  const double norm = optimizer_->gradient_norm(active_);
  const double rate =
      learning_rate_at(stage_.config().optimizer, steps_done_, stage_.config().steps);
  unreported_->grad_norm = norm;
  unreported_->learning_rate = rate;
  unreported_->skipped = !std::isfinite(norm);
  if (!unreported_->skipped) {
    bad_steps_ = 0;
    optimizer_->update(active_, rate, norm);
    return true;
  }
  if (bad_steps_++ == 0) first_bad_step_ = steps_done_;
  if (bad_steps_ > options_.config.compute.max_bad_steps) give_up();
  return false;
}

void StepLoop::give_up() {
  checkpointer_.settle();  // a save under way is of a good step
  const std::string saved = checkpointer_.last_step() < 0
                                ? "There is no checkpoint."
                                : "The last good checkpoint is of step " +
                                      std::to_string(checkpointer_.last_step()) + ".";
  throw NumericError("stage " + stage_.config().name + ": loss or gradients were not finite " +
                     std::to_string(bad_steps_) + " steps in a row, from step " +
                     std::to_string(first_bad_step_) + " on. " + saved +
                     " Lower the learning rate, or raise warmup_steps");
}

void StepLoop::flush_report() {
  if (!unreported_) return;
  const size_t losses = stage_.losses().size();
  Agreement mine(losses);
  mine.loss_sums = loss_numbers(sums_, losses);
  publish(agree(comm_, mine).loss_sums);
}

// The report of the last step, now that its losses are known.
void StepLoop::publish(const std::vector<double>& sums) {
  if (!unreported_) return;
  StepReport& report = *unreported_;
  const StageConfig& stage = stage_.config();
  report.stage = stage.name;
  report.stage_steps = stage.steps;
  report.global_step = options_.global_step_before + report.step;
  report.total_steps = options_.total_steps;
  report.samples = report.step * stage.batch_size;
  meter_.add(sums, targets_);
  report.losses = meter_.means();
  report.total_loss = meter_.total();
  clock_.count_step();
  const double step_s = std::max(1e-9, clock_.step_s());
  report.samples_per_s = static_cast<double>(stage.batch_size) / step_s;
  report.eta_s = step_s * static_cast<double>(report.stage_steps - report.step);
  report.time_s = clock_.per_step();
  observer_.on_step(report);
  const bool is_line_due = report.step % options_.config.log.every_steps == 0 || report.step == 1 ||
                           report.step == report.stage_steps;
  if (is_line_due) {
    if (options_.on_line) options_.on_line(report);
    clock_.reset();
    meter_.start_interval();
  }
  sums_.clear();
  unreported_.reset();
}

}  // namespace espalier
