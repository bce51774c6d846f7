#include "trainer/update/work_meter.h"

#include <algorithm>
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
  const auto known = flops_per_position_.find(mix_of(batch));
  const double positions = positions_of(batch);
  untaken_.positions += positions;
  if (known != flops_per_position_.end()) untaken_.flops += known->second * positions;
}

WorkMeter::Work WorkMeter::take() { return std::exchange(untaken_, {}); }

void WorkMeter::add_to_interval(const Work& work, int64_t steps) {
  interval_.positions += work.positions;
  interval_.flops += work.flops;
  steps_ += steps;
}

WorkMeter::Work WorkMeter::per_step() const {
  const auto steps = static_cast<double>(std::max<int64_t>(1, steps_));
  return {interval_.positions / steps, interval_.flops / steps};
}

void WorkMeter::start_interval() {
  interval_ = {};
  steps_ = 0;
}

}  // namespace espalier
