#include "trainer/update/step_loop.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <c10/core/DeviceGuard.h>
#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/host/memory_use.h"
#include "trainer/host/peak_flops.h"
#include "trainer/record/metrics.h"
#include "trainer/update/flop_counter.h"
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

at::Tensor total_of(const std::vector<at::Tensor>& terms) {
  at::Tensor total;
  for (const at::Tensor& term : terms) {
    if (term.defined()) total = total.defined() ? total + term : term;
  }
  return total;
}

}  // namespace

StepLoop::StepLoop(Stage& stage, Communicator& comm, RunObserver& observer,
                   Checkpointer& checkpointer, StepLoopOptions options)
    : stage_(stage),
      comm_(comm),
      control_(options.control != nullptr ? *options.control : comm),
      observer_(observer),
      checkpointer_(checkpointer),
      options_(std::move(options)),
      interference_(stage, comm, options_.config.interference),
      clock_(observer, options_.device),
      meter_(stage.losses()),
      work_(stage.config().objectives.size()) {
  const std::vector<ParameterGroup>& groups = stage_.parameter_groups();
  optimizer_ =
      std::make_unique<Optimizer>(groups, stage_.parameter_names(), stage_.config().optimizer);
  average_ = make_average(stage_);
  reducer_ = std::make_unique<GradientReducer>(
      comm_, groups,
      ReducerOptions{static_cast<int64_t>(options_.config.compute.bucket_mib * (1 << 20))});
  if (!reads_every_step()) measures_.emplace(stage_.losses().size(), options_.device);
  peak_flops_ = peak_flops_of(options_.device,
                              resolve_precision(options_.device.type(), stage_.config().precision));
}

StepLoop::~StepLoop() = default;

TensorMap StepLoop::state() const {
  TensorMap state;
  for (auto& [name, tensor] : optimizer_->state()) state["optimizer/" + name] = tensor;
  for (auto& [name, tensor] : average_->state()) state["average/" + name] = tensor;
  return state;
}

void StepLoop::set_position(int64_t steps_done, int64_t bad_steps, const nlohmann::json& losses) {
  meter_.restore(losses);
  steps_done_ = steps_done;
  bad_steps_ = bad_steps;
  first_bad_step_ = steps_done - bad_steps;
  if (measures_) measures_->set_bad_steps(bad_steps);
}

bool StepLoop::step() {
  clock_.enter(Phase::kData);
  if (!prefetcher_) {
    prefetcher_ = std::make_unique<Prefetcher<StepBatches>>(
        [this](int64_t step) { return load_step(step); }, steps_done_, stage_.config().steps,
        static_cast<int>(options_.config.compute.prefetch));
  }
  StepBatches batches = prefetcher_->next();
  clock_.enter(Phase::kAgree);
  const Agreement agreed = agree_on(batches);
  if (agreed.wants_to_stop > 0) {
    clock_.leave();
    return false;
  }
  targets_ = agreed.targets;
  active_ = stage_.groups_in_step(steps_done_);
  stage_.begin_step(steps_done_);
  clock_.enter(Phase::kForwardBackward);
  if (interference_.is_on()) interference_.begin_step(steps_done_);
  forward_backward(batches);
  clock_.enter(Phase::kReduce);
  reducer_->finish();
  clock_.enter(Phase::kOptimizer);
  interference_.before_update();
  const bool applied = apply_gradients();
  clock_.enter(Phase::kStatistics);
  if (applied) {
    stage_.after_update(comm_, steps_done_, applies_);
    average_->update(steps_done_, applies_);
  } else {
    stage_.skip_update();
  }
  ++steps_done_;
  unreported_->step = steps_done_;
  if (interference_.measures_this_step()) end_measure();
  clock_.leave();
  return true;
}

void StepLoop::end_measure() {
  clock_.enter(Phase::kInterference);
  std::optional<InterferenceRecord> record = interference_.end_step(step_s_);
  if (!record || options_.log == nullptr) return;
  record->global_step = options_.global_step_before + record->step;
  options_.log->interference(to_json(*record));
}

// On the prefetch thread. This rank's slots of the step: rank r of W has the r-th of W equal parts.
StepLoop::StepBatches StepLoop::load_step(int64_t step) {
  const c10::OptionalDeviceGuard guard(options_.device.is_cpu() ? std::nullopt
                                                                : std::optional(options_.device));
  const int64_t per_rank = stage_.config().slots() / comm_.size();
  StepBatches batches;
  for (int64_t i = 0; i < per_rank; ++i) {
    for (SlotBatch& pass : stage_.load_passes(step, comm_.rank() * per_rank + i)) {
      batches.push_back(std::move(pass));
    }
  }
  return batches;
}

Agreement StepLoop::agree_on(const StepBatches& batches) {
  const size_t losses = stage_.losses().size();
  Agreement mine(losses, stage_.config().objectives.size());
  for (const SlotBatch& batch : batches) stage_.count_targets(batch, mine.targets);
  const bool reads = is_reading_due();
  if (reads) read_measures(mine);
  mine.wants_to_stop = observer_.stop_requested() ? 1.0 : 0.0;
  mine.cut_off = observer_.is_cut_off() ? 1.0 : 0.0;
  mine.writing_checkpoint = checkpointer_.pending();
  const Agreement all = agree(control_, mine);
  publish(reads ? std::optional(all) : std::nullopt);
  is_cut_off_ = all.cut_off > 0;
  checkpointer_.advance(all.writing_checkpoint);
  return all;
}

void StepLoop::forward_backward(StepBatches& batches) {
  sums_.assign(stage_.losses().size(), {});
  unreported_ = StepReport{};
  reducer_->start_step(active_);
  for (size_t i = 0; i < batches.size(); ++i) {
    std::optional<FlopCounter> counter;
    if (work_.is_new(batches[i])) counter.emplace();
    train_slot(batches[i], i + 1 == batches.size());
    if (counter) work_.learn(batches[i], counter->flops());
    work_.add(batches[i]);
  }
}

void StepLoop::train_slot(SlotBatch& batch, bool is_last) {
  std::vector<at::Tensor> terms;
  at::Tensor total;
  batch.upload.send();
  {
    const PrecisionGuard guard(options_.device.type(), stage_.config().precision);
    terms = weighted_terms(stage_.compute(batch));
    total = total_of(terms);
  }
  if (!total.defined() || !total.requires_grad()) return;
  if (interference_.measures_this_step()) {
    clock_.enter(Phase::kInterference);
    interference_.before_backward(batch, terms);
    clock_.enter(Phase::kForwardBackward);
  }
  if (is_last) reducer_->expect_last_backward(stage_.groups_in_slot(batch));
  // A loss that is not finite can have finite gradients. Seeding backward with nan makes it show
  // in the sum of gradients, and so on every rank, without another message.
  const at::Tensor seed = torch::ones_like(total).masked_fill_(
      at::isfinite(total.detach()).logical_not(), std::numeric_limits<double>::quiet_NaN());
  total.backward(seed);
  interference_.after_backward();
}

// By loss what this slot adds to the loss of the step; undefined = nothing.
std::vector<at::Tensor> StepLoop::weighted_terms(const std::vector<at::Tensor>& sums) {
  const std::vector<StageLoss>& losses = stage_.losses();
  std::vector<at::Tensor> terms(losses.size());
  for (size_t i = 0; i < losses.size(); ++i) {
    if (!sums[i].defined() || targets_[i] <= 0) continue;
    const at::Tensor sum = sums[i].detach();
    sums_[i] = sums_[i].defined() ? sums_[i] + sum : sum;
    const double weight = losses[i].weight * stage_.share_of_step(losses[i], steps_done_);
    if (weight != 0) terms[i] = sums[i] * (weight / targets_[i]);
  }
  return terms;
}

// False: gradients were not finite, and nothing was changed. The norm is the same on every rank, as
// summed gradients are, so all take the same turn.
bool StepLoop::apply_gradients() {
  unread_targets_.resize(targets_.size(), 0.0);
  for (size_t i = 0; i < targets_.size(); ++i) unread_targets_[i] += targets_[i];
  ++unread_steps_;
  if (!reads_every_step()) {
    apply_unread();
    return true;
  }
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

// The same on a GPU, which decides by itself whether the step changes anything.
void StepLoop::apply_unread() {
  const double rate =
      learning_rate_at(stage_.config().optimizer, steps_done_, stage_.config().steps);
  const at::Tensor norm = optimizer_->gradient_norm_on_device(active_);
  applies_ = at::isfinite(norm);
  optimizer_->update(active_, rate, norm);
  measures_->add(sums_, norm, applies_);
  unreported_->learning_rate = rate;
}

bool StepLoop::is_line(int64_t step) const {
  return step % options_.config.log.every_steps == 0 || step == 1 || step == stage_.config().steps;
}

// Whether what the last step measured is read now; the same on every rank.
bool StepLoop::is_reading_due() const {
  if (!unreported_) return false;
  return reads_every_step() || is_line(unreported_->step) ||
         unread_steps_ > options_.config.compute.max_bad_steps;
}

// Of this rank, over all steps that were not read.
void StepLoop::read_measures(Agreement& mine) {
  const WorkMeter::Work work = work_.take();
  mine.positions = work.positions;
  mine.flops = work.flops;
  if (!measures_) {
    mine.loss_sums = loss_numbers(sums_, stage_.losses().size());
    return;
  }
  StepMeasures::Values values = measures_->take();
  last_norm_ = values.gradient_norm;
  note_bad_steps(values.bad_steps);
  unreported_->skipped = values.bad_steps > 0;
  mine.loss_sums = std::move(values.loss_sums);
}

// As a GPU counted them, the last step included. All ranks read the same, and take the same turn.
void StepLoop::note_bad_steps(int64_t in_a_row) {
  if (in_a_row > 0) first_bad_step_ = steps_done_ - in_a_row;
  bad_steps_ = in_a_row;
  if (bad_steps_ > options_.config.compute.max_bad_steps) give_up();
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
  Agreement mine(stage_.losses().size(), stage_.config().objectives.size());
  read_measures(mine);
  publish(agree(control_, mine));
}

// The report of the last step, now that its losses are known, if they were read: else it has those
// that were known last.
void StepLoop::publish(const std::optional<Agreement>& read) {
  if (!unreported_) return;
  clock_.count_step();
  if (read) note_measures(*read);
  StepReport report = known_;
  const StageConfig& stage = stage_.config();
  report.stage = stage.name;
  report.step = unreported_->step;
  report.stage_steps = stage.steps;
  report.global_step = options_.global_step_before + report.step;
  report.total_steps = options_.total_steps;
  report.samples = report.step * stage.batch_size;
  report.learning_rate = unreported_->learning_rate;
  report.grad_norm = measures_ ? last_norm_ : unreported_->grad_norm;
  report.skipped = unreported_->skipped;
  report.eta_s = step_s_ * static_cast<double>(report.stage_steps - report.step);
  observer_.on_step(report);
  if (is_line(report.step)) {
    if (options_.log != nullptr) options_.log->metrics(report);
    clock_.reset();
    meter_.start_interval();
    work_.start_interval();
  }
  sums_.clear();
  unreported_.reset();
}

// What the steps since the last reading measured, over all ranks.
void StepLoop::note_measures(const Agreement& read) {
  meter_.add(read.loss_sums, unread_targets_);
  work_.add_to_interval({read.positions, read.flops}, unread_steps_);
  unread_targets_.assign(unread_targets_.size(), 0.0);
  unread_steps_ = 0;
  clock_.settle();
  step_s_ = std::max(1e-9, clock_.step_s());
  const WorkMeter::Work work = work_.per_step();
  known_.losses = meter_.means();
  known_.total_loss = meter_.total();
  known_.samples_per_s = static_cast<double>(stage_.config().batch_size) / step_s_;
  known_.tokens_per_s = work.all_positions() / step_s_;
  for (size_t i = 0; i < work.positions.size(); ++i) {
    known_.tokens_per_step[stage_.config().objectives[i].name] = work.positions[i];
  }
  known_.flops_per_s = work.flops / step_s_;
  if (peak_flops_) known_.peak_share = known_.flops_per_s / (*peak_flops_ * comm_.size());
  known_.host_memory_bytes = peak_host_memory();
  known_.device_memory_bytes = peak_device_memory(options_.device);
  known_.time_s = clock_.per_step();
}

}  // namespace espalier
