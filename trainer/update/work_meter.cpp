#include "trainer/update/work_meter.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace espalier {
namespace {

double positions_of(const SlotBatch& batch) {
  double positions = 0;
  for (const auto& part : batch.parts) positions += part->positions;
  return positions;
}

}  // namespace

std::vector<int64_t> WorkMeter::mix_of(const SlotBatch& batch) {
  std::vector<int64_t> mix;
  for (const auto& part : batch.parts) mix.push_back(part->turn.objective);
  return mix;
}

void WorkMeter::learn(const SlotBatch& batch, double flops) {
  flops_per_position_[mix_of(batch)] = flops / std::max(1.0, positions_of(batch));
}

void WorkMeter::add(const SlotBatch& batch) {
  for (const auto& part : batch.parts) {
    untaken_.positions.at(static_cast<size_t>(part->turn.objective)) += part->positions;
  }
  const auto known = flops_per_position_.find(mix_of(batch));
  if (known != flops_per_position_.end()) untaken_.flops += known->second * positions_of(batch);
}

WorkMeter::Work WorkMeter::take() {
  return std::exchange(untaken_, Work(untaken_.positions.size()));
}

void WorkMeter::add_to_interval(const Work& work, int64_t steps) {
  for (size_t i = 0; i < work.positions.size(); ++i) interval_.positions[i] += work.positions[i];
  interval_.flops += work.flops;
  steps_ += steps;
}

WorkMeter::Work WorkMeter::per_step() const {
  const auto steps = static_cast<double>(std::max<int64_t>(1, steps_));
  Work mean = interval_;
  for (double& positions : mean.positions) positions /= steps;
  mean.flops /= steps;
  return mean;
}

void WorkMeter::start_interval() {
  interval_ = Work(interval_.positions.size());
  steps_ = 0;
}

double WorkMeter::Work::all_positions() const {
  return std::accumulate(positions.begin(), positions.end(), 0.0);
}

}  // namespace espalier
