#include "trainer/update/step_loop.h"

#include <cmath>
#include <limits>
#include <unordered_map>

#include <torch/torch.h>

#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/update/precision.h"
#include "trainer/update/schedule.h"

namespace espalier {
namespace {

std::vector<at::Tensor> all_parameters(const std::vector<ParameterGroup>& groups) {
  std::vector<at::Tensor> all;
  for (const ParameterGroup& group : groups) {
    all.insert(all.end(), group.parameters.begin(), group.parameters.end());
  }
  return all;
}

}  // namespace

std::vector<std::string> parameter_names(const std::vector<ParameterGroup>& groups,
                                         const TensorMap& state) {
  std::unordered_map<const void*, std::string> by_storage;
  for (const auto& [name, tensor] : state) by_storage[tensor.data_ptr()] = name;
  std::vector<std::string> names;
  for (const ParameterGroup& group : groups) {
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      const auto found = by_storage.find(group.parameters[i].data_ptr());
      TORCH_CHECK(found != by_storage.end(), "parameter ", i, " of group ", group.name,
                  " is missing from the stage's state()");
      names.push_back(found->second);
    }
  }
  return names;
}

StepLoop::StepLoop(Stage& stage, Communicator& comm, RunObserver& observer,
                   Checkpointer& checkpointer, StepLoopOptions options)
    : stage_(stage),
      comm_(comm),
      observer_(observer),
      checkpointer_(checkpointer),
      options_(std::move(options)),
      groups_(stage.parameter_groups()),
      loss_names_(stage.loss_names()),
      loss_weights_(stage.loss_weights()),
      clock_(observer) {
  const std::vector<std::string> names = parameter_names(groups_, stage_.state());
  optimizer_ = std::make_unique<Optimizer>(groups_, names, options_.stage.optimizer);
  average_ =
      std::make_unique<WeightAverage>(all_parameters(groups_), names, options_.stage.ema_decay);
  reducer_ = std::make_unique<GradientReducer>(
      comm_, groups_, ReducerOptions{options_.config.compute.bucket_kib * 1024});
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
        [this](int64_t step) { return load_step(step); }, steps_done_, options_.stage.steps,
        static_cast<int>(options_.config.compute.prefetch));
  }
  const StepBatches batches = prefetcher_->next();
  clock_.enter(Phase::kAgree);
  const Agreement agreement = agree(batches);
  if (agreement.stop) {
    clock_.leave();
    return false;
  }
  clock_.enter(Phase::kForwardBackward);
  forward_backward(batches, agreement);
  clock_.enter(Phase::kReduce);
  reducer_->finish();
  clock_.enter(Phase::kOptimizer);
  const bool applied = apply_gradients(agreement);
  clock_.enter(Phase::kStatistics);
  if (applied) {
    stage_.after_optimizer(comm_, steps_done_);
    average_->update(steps_done_);
  } else {
    stage_.skip_step(steps_done_);
  }
  ++steps_done_;
  unreported_->step = steps_done_;
  clock_.leave();
  return true;
}

// On the prefetch thread. This rank's slots of the step: rank r of W has the r-th of W equal parts.
StepLoop::StepBatches StepLoop::load_step(int64_t step) {
  const int64_t per_rank = options_.stage.slots() / comm_.size();
  StepBatches batches;
  for (int64_t i = 0; i < per_rank; ++i) {
    batches.push_back(stage_.load(step, comm_.rank() * per_rank + i));
  }
  return batches;
}

StepLoop::Agreement StepLoop::agree(const StepBatches& batches) {
  const size_t losses = loss_names_.size();
  const size_t groups = groups_.size();
  std::vector<double> values(losses + groups, 0.0);
  for (const auto& batch : batches) {
    for (size_t i = 0; i < losses; ++i) values[i] += batch->target_counts.at(i);
    for (size_t g = 0; g < groups; ++g) values[losses + g] += batch->groups.at(g) ? 1.0 : 0.0;
  }
  values.push_back(observer_.stop_requested() ? 1.0 : 0.0);
  values.push_back(checkpointer_.pending());
  const size_t sums_at = values.size();
  for (const at::Tensor& sum : sums_) {
    values.push_back(sum.defined() ? sum.to(at::kDouble).item<double>() : 0.0);
  }
  values.resize(sums_at + losses, 0.0);

  at::Tensor vector = torch::tensor(values, at::kDouble).to(communication_device(comm_));
  comm_.all_reduce(vector)->wait();
  vector = vector.to(at::kCPU);
  const double* sum = vector.data_ptr<double>();
  publish({sum + sums_at, sum + sums_at + losses});
  checkpointer_.advance(sum[losses + groups + 1]);

  Agreement agreement;
  agreement.counts.assign(sum, sum + losses);
  for (size_t g = 0; g < groups; ++g) agreement.active.push_back(sum[losses + g] > 0);
  agreement.stop = sum[losses + groups] > 0;
  return agreement;
}

void StepLoop::forward_backward(const StepBatches& batches, const Agreement& agreement) {
  counts_ = agreement.counts;
  sums_.assign(loss_names_.size(), {});
  unreported_ = StepReport{};
  reducer_->start_step(agreement.active);
  for (size_t i = 0; i < batches.size(); ++i) {
    at::Tensor total;
    {
      const PrecisionGuard guard(options_.device.type(), options_.stage.precision);
      total = weighted_total(stage_.losses(*batches[i], steps_done_), agreement.counts);
    }
    if (!total.defined() || !total.requires_grad()) continue;
    if (i + 1 == batches.size()) reducer_->expect_last_backward(batches[i]->groups);
    // A loss that is not finite can have finite gradients. Seeding backward with nan makes it show
    // in the sum of gradients, and so on every rank, without another message.
    const at::Tensor seed = torch::ones_like(total).masked_fill_(
        at::isfinite(total.detach()).logical_not(), std::numeric_limits<double>::quiet_NaN());
    total.backward(seed);
  }
}

at::Tensor StepLoop::weighted_total(const std::vector<at::Tensor>& losses,
                                    const std::vector<double>& counts) {
  TORCH_CHECK(losses.size() == loss_names_.size(), "the stage returned ", losses.size(),
              " losses, but has ", loss_names_.size(), " names");
  at::Tensor total;
  for (size_t i = 0; i < losses.size(); ++i) {
    if (!losses[i].defined() || counts[i] <= 0) continue;
    const at::Tensor sum = losses[i].detach();
    sums_[i] = sums_[i].defined() ? sums_[i] + sum : sum;
    if (loss_weights_[i] == 0) continue;
    const at::Tensor term = losses[i] * (loss_weights_[i] / counts[i]);
    total = total.defined() ? total + term : term;
  }
  return total;
}

// False: gradients were not finite, and nothing was changed. The norm is the same on every rank, as
// summed gradients are, so all take the same turn.
bool StepLoop::apply_gradients(const Agreement& agreement) {
  const double norm = optimizer_->gradient_norm(agreement.active);
  const double rate = learning_rate_at(options_.stage.optimizer, steps_done_, options_.stage.steps);
  unreported_->grad_norm = norm;
  unreported_->learning_rate = rate;
  unreported_->skipped = !std::isfinite(norm);
  if (!unreported_->skipped) {
    bad_steps_ = 0;
    optimizer_->update(agreement.active, rate, norm);
    return true;
  }
  if (bad_steps_++ == 0) first_bad_step_ = steps_done_;
  if (bad_steps_ > options_.config.compute.max_bad_steps) {
    checkpointer_.settle();  // a save under way is of a good step
    const std::string saved = checkpointer_.last_step() < 0
                                  ? "There is no checkpoint."
                                  : "The last good checkpoint is of step " +
                                        std::to_string(checkpointer_.last_step()) + ".";
    throw NumericError("stage " + options_.stage.name + ": loss or gradients were not finite " +
                       std::to_string(bad_steps_) + " steps in a row, from step " +
                       std::to_string(first_bad_step_) + " on. " + saved +
                       " Lower the learning rate, or raise warmup_steps");
  }
  return false;
}

void StepLoop::flush_report() {
  if (!unreported_) return;
  std::vector<double> values;
  for (const at::Tensor& sum : sums_) {
    values.push_back(sum.defined() ? sum.to(at::kDouble).item<double>() : 0.0);
  }
  at::Tensor vector = torch::tensor(values, at::kDouble).to(communication_device(comm_));
  comm_.all_reduce(vector)->wait();
  vector = vector.to(at::kCPU);
  const double* sum = vector.data_ptr<double>();
  publish({sum, sum + values.size()});
}

// The report of the last step, now that its losses are known.
void StepLoop::publish(const std::vector<double>& sums) {
  if (!unreported_) return;
  StepReport& report = *unreported_;
  report.stage = options_.stage.name;
  report.stage_steps = options_.stage.steps;
  report.global_step = options_.global_step_before + report.step;
  report.total_steps = options_.total_steps;
  report.samples = report.step * options_.stage.batch_size;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (counts_[i] <= 0) continue;
    const double loss = sums[i] / counts_[i];
    report.losses[loss_names_[i]] = loss;
    report.total_loss += loss_weights_[i] * loss;
  }
  clock_.count_step();
  const double step_s = std::max(1e-9, clock_.step_s());
  report.samples_per_s = static_cast<double>(options_.stage.batch_size) / step_s;
  report.eta_s = step_s * static_cast<double>(report.stage_steps - report.step);
  report.time_s = clock_.per_step();
  observer_.on_step(report);
  const bool is_line_due = report.step % options_.config.log.every_steps == 0 || report.step == 1 ||
                           report.step == report.stage_steps;
  if (is_line_due) {
    if (options_.on_line) options_.on_line(report);
    clock_.reset();
  }
  sums_.clear();
  unreported_.reset();
}

}  // namespace espalier
