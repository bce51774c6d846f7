#include "trainer/interference/interference_meter.h"

#include <chrono>
#include <cmath>

#include <torch/torch.h>

#include "trainer/host/collective_text.h"

namespace espalier {
namespace {

// Adds the time of its life.
class Timer {
 public:
  explicit Timer(double& seconds) : seconds_(seconds) {}
  ~Timer() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_ = Clock::now();
};

// What was given to a GPU before is not charged to what follows. Nothing on the CPU.
void wait_for(const at::Tensor& on_device) {
  if (!on_device.is_cpu()) on_device.flatten()[0].item();
}

double norm_of(const std::vector<at::Tensor>& tensors) {
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(tensors)), 2).item<double>();
}

}  // namespace

InterferenceMeter::InterferenceMeter(const Stage& stage, Communicator& comm,
                                     const InterferenceConfig& config)
    : stage_(stage), comm_(comm), config_(config) {
  if (config.every_steps == 0) return;
  find_shared();
}

void InterferenceMeter::find_shared() {
  const auto& groups_of = stage_.groups_of();
  const std::vector<ParameterGroup>& groups = stage_.parameter_groups();
  std::vector<int64_t> users(groups.size(), 0);
  for (const auto& reached : groups_of) {
    for (const size_t group : reached) ++users[group];
  }
  std::vector<at::Tensor> parameters;
  size_t name = 0;
  int64_t offset = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const at::Tensor& parameter : groups[g].parameters) {
      const std::string& full = stage_.parameter_names()[name++];
      if (users[g] < 2) continue;
      shared_.push_back({full, offset, parameter.numel(), parameter.dim() >= 2});
      parameters.push_back(parameter);
      offset += parameter.numel();
    }
  }
  if (parameters.empty()) return;
  for (const auto& reached : groups_of) {
    bool shares = false;
    for (const size_t group : reached) {
      shares = shares || (users[group] > 1 && !groups[group].parameters.empty());
    }
    measured_.push_back(shares);
  }
  sums_ = std::make_unique<GradientSums>(std::move(parameters), std::ssize(measured_));
}

void InterferenceMeter::begin_step(int64_t steps_done) {
  step_ = steps_done;
  if (next_ < 0) next_ = first_measure(steps_done, config_.every_steps);
  if (!sums_->is_on() && steps_done == next_) start_window(steps_done);
  is_measuring_ = sums_->is_on();
  if (is_measuring_) active_ = stage_.groups_in_step(steps_done);
}

void InterferenceMeter::start_window(int64_t steps_done) {
  cost_s_ = 0;
  const Timer timer(cost_s_);
  window_ = measure_window(stage_.plan(), measured_, steps_done, stage_.config().steps);
  sums_->start();
}

void InterferenceMeter::before_backward(const SlotBatch& batch,
                                        const std::vector<at::Tensor>& terms) {
  if (!is_measuring_) return;
  const Timer timer(cost_s_);
  std::vector<std::pair<const Turn*, at::Tensor>> losses;  // of the objectives with gradients
  for (const auto& part : batch.parts) {
    at::Tensor loss;
    for (size_t i = 0; i < terms.size(); ++i) {
      if (stage_.losses()[i].objective != part->turn.objective || !terms[i].defined()) continue;
      loss = loss.defined() ? loss + terms[i] : terms[i];
    }
    if (loss.defined() && loss.requires_grad()) losses.emplace_back(&part->turn, loss);
  }
  if (losses.size() == 1) {
    sums_->catch_next(losses[0].first->objective, half_of(*losses[0].first));
    return;
  }
  for (const auto& [turn, loss] : losses) {
    if (!measured_[static_cast<size_t>(turn->objective)]) continue;
    sums_->add(turn->objective, half_of(*turn), loss);
  }
}

void InterferenceMeter::after_backward() {
  if (is_measuring_) sums_->catch_none();
}

void InterferenceMeter::before_update() {
  if (is_measuring_ && step_ + 1 == window_.end()) keep_weights();
}

// Weights are the same on every rank: one of them compares.
void InterferenceMeter::keep_weights() {
  if (comm_.rank() != 0) return;
  const Timer timer(cost_s_);
  const torch::NoGradGuard no_grad;
  before_.clear();
  const std::vector<ParameterGroup>& groups = stage_.parameter_groups();
  for (size_t g = 0; g < groups.size(); ++g) {
    before_.emplace_back();
    if (!active_[g]) continue;
    for (const at::Tensor& parameter : groups[g].parameters) {
      before_.back().push_back(parameter.detach().clone());
    }
  }
}

std::map<std::string, double> InterferenceMeter::update_ratios() const {
  std::map<std::string, double> ratios;
  const std::vector<ParameterGroup>& groups = stage_.parameter_groups();
  for (size_t g = 0; g < before_.size(); ++g) {
    if (before_[g].empty()) continue;
    const double norm = norm_of(before_[g]);
    const double change = norm_of(at::_foreach_sub(groups[g].parameters, before_[g]));
    ratios[groups[g].name] = norm > 0 ? change / norm : kUnknown;
  }
  return ratios;
}

std::optional<InterferenceRecord> InterferenceMeter::end_step(double step_s) {
  if (!is_measuring_ || step_ + 1 < window_.end()) return std::nullopt;
  wait_for(sums_->rows());
  InterferenceRecord found = [&] {
    const Timer timer(cost_s_);
    return record();
  }();
  cost_s_ += sums_->hook_seconds();
  share_times(found, step_s);
  sums_->stop();
  before_.clear();
  is_measuring_ = false;
  return found;
}

InterferenceRecord InterferenceMeter::record() {
  const torch::NoGradGuard no_grad;
  comm_.all_reduce(sums_->rows())->wait();
  InterferenceRecord record;
  record.stage = stage_.config().name;
  record.step = window_.end();
  record.steps = window_.steps;
  record.update_ratios = update_ratios();
  for (const ObjectiveConfig& objective : stage_.config().objectives) {
    record.objectives.push_back(objective.name);
    record.branches.push_back(objective.settings->branch_name());
  }
  // The same on every rank, which has other things to do: one of them writes it down.
  if (comm_.rank() == 0) {
    record.places = compare_gradients(sums_->rows(), shared_, window_.turns, window_.steps);
  }
  return record;
}

// The ranks wait for each other: what the slowest takes they all take.
void InterferenceMeter::share_times(InterferenceRecord& record, double step_s) {
  const at::Tensor times =
      torch::tensor({cost_s_, step_s}, at::kDouble).to(communication_device(comm_));
  comm_.all_reduce(times, ReduceOp::kMax)->wait();
  record.cost_s = times[0].item<double>();
  record.step_s = times[1].item<double>();
  next_ = next_measure(window_.first, window_.end(), config_.every_steps, record.cost_s,
                       record.step_s, config_.budget);
  record.next_step = next_;
}

}  // namespace espalier
