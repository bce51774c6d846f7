#include "trainer/update/step_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace espalier {
namespace {

// Slots of a period for each share: largest remainders, at least one for each that is positive.
std::vector<int64_t> slots_of_period(const std::vector<double>& shares, int64_t period) {
  const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<int64_t> counts(shares.size(), 0);
  if (total <= 0) return counts;
  std::vector<double> remainders(shares.size(), -1.0);
  for (size_t i = 0; i < shares.size(); ++i) {
    if (shares[i] <= 0) continue;
    const double exact = shares[i] / total * static_cast<double>(period);
    counts[i] = std::max<int64_t>(1, static_cast<int64_t>(std::floor(exact)));
    remainders[i] = exact - std::floor(exact);
  }
  while (std::accumulate(counts.begin(), counts.end(), int64_t{0}) < period) {
    const auto next = std::max_element(remainders.begin(), remainders.end());
    ++counts[static_cast<size_t>(next - remainders.begin())];
    *next = 0;
  }
  while (std::accumulate(counts.begin(), counts.end(), int64_t{0}) > period) {
    --*std::max_element(counts.begin(), counts.end());  // a tiny share was rounded up to one slot
  }
  return counts;
}

// Every slot goes to the objective that is farthest behind its share.
std::vector<int64_t> evenly_spread(const std::vector<int64_t>& counts, int64_t period) {
  std::vector<int64_t> given(counts.size(), 0), order;
  for (int64_t slot = 0; slot < period; ++slot) {
    int64_t next = -1;
    int64_t most_behind = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      const int64_t behind = counts[i] * (slot + 1) - given[i] * period;
      if (counts[i] > given[i] && (next < 0 || behind > most_behind)) {
        next = static_cast<int64_t>(i);
        most_behind = behind;
      }
    }
    order.push_back(next);
    if (next >= 0) ++given[static_cast<size_t>(next)];
  }
  return order;
}

}  // namespace

StepPlan::StepPlan(const std::vector<double>& shares, int64_t slots_per_step,
                   int64_t samples_per_slot)
    : slots_(slots_per_step), samples_(samples_per_slot) {
  for (const double share : shares) in_every_slot_.push_back(share == 0);
  owner_ = evenly_spread(slots_of_period(shares, kPeriod), kPeriod);
  owned_before_.assign(shares.size(), {0});
  for (size_t i = 0; i < shares.size(); ++i) {
    for (const int64_t owner : owner_) {
      owned_before_[i].push_back(owned_before_[i].back() + (owner == static_cast<int64_t>(i)));
    }
  }
}

bool StepPlan::takes_part(int64_t objective, int64_t slot_number) const {
  return in_every_slot_[static_cast<size_t>(objective)] ||
         owner_[static_cast<size_t>(slot_number % kPeriod)] == objective;
}

int64_t StepPlan::count_before(int64_t objective, int64_t slot_number) const {
  const auto i = static_cast<size_t>(objective);
  if (in_every_slot_[i]) return slot_number;
  return slot_number / kPeriod * owned_before_[i].back() +
         owned_before_[i][static_cast<size_t>(slot_number % kPeriod)];
}

std::vector<Turn> StepPlan::turns(int64_t step, int64_t slot) const {
  std::vector<Turn> turns;
  const int64_t first = step * slots_;
  const int64_t number = first + slot;
  for (int64_t i = 0; i < static_cast<int64_t>(in_every_slot_.size()); ++i) {
    if (!takes_part(i, number)) continue;
    const int64_t earlier = count_before(i, number);
    turns.push_back({i, step, slot, number, earlier, earlier - count_before(i, first),
                     slots_in(i, step), samples_, 0, samples_});
  }
  return turns;
}

double StepPlan::expected_slots(int64_t objective) const {
  const auto i = static_cast<size_t>(objective);
  if (in_every_slot_[i]) return static_cast<double>(slots_);
  return static_cast<double>(owned_before_[i].back() * slots_) / static_cast<double>(kPeriod);
}

int64_t StepPlan::slots_in(int64_t objective, int64_t step) const {
  return count_before(objective, (step + 1) * slots_) - count_before(objective, step * slots_);
}

std::vector<bool> StepPlan::runs_in(int64_t step) const {
  std::vector<bool> runs;
  for (int64_t i = 0; i < static_cast<int64_t>(in_every_slot_.size()); ++i) {
    runs.push_back(slots_in(i, step) > 0);
  }
  return runs;
}

}  // namespace espalier
