#include "trainer/update/loss_meter.h"

namespace espalier {

LossMeter::LossMeter(const std::vector<StageLoss>& losses)
    : losses_(losses),
      sums_(losses.size(), 0.0),
      targets_(losses.size(), 0.0),
      latest_(losses.size(), 0.0),
      has_value_(losses.size(), false) {}

void LossMeter::add(const std::vector<double>& sums, const std::vector<double>& targets) {
  for (size_t i = 0; i < losses_.size(); ++i) {
    if (targets[i] <= 0) continue;
    sums_[i] += sums[i];
    targets_[i] += targets[i];
    latest_[i] = sums_[i] / targets_[i];
    has_value_[i] = true;
  }
}

void LossMeter::start_interval() {
  sums_.assign(losses_.size(), 0.0);
  targets_.assign(losses_.size(), 0.0);
}

std::map<std::string, double> LossMeter::means() const {
  std::map<std::string, double> means;
  for (size_t i = 0; i < losses_.size(); ++i) {
    if (has_value_[i]) means[losses_[i].name] = latest_[i];
  }
  return means;
}

double LossMeter::total() const {
  double total = 0;
  for (size_t i = 0; i < losses_.size(); ++i) {
    if (has_value_[i]) total += losses_[i].weight * latest_[i];
  }
  return total;
}

}  // namespace espalier
