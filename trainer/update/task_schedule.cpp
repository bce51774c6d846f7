#include "trainer/update/task_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/order/random.h"
#include "trainer/errors.h"

namespace espalier {

TaskSchedule::TaskSchedule(std::vector<double> weights, uint64_t seed) : seed_(seed) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (!(total > 0)) throw ConfigError("every task weight is 0: nothing would be trained");
  int64_t given = 0;
  std::vector<size_t> by_remainder(weights.size());
  std::iota(by_remainder.begin(), by_remainder.end(), size_t{0});
  std::vector<double> exact;
  for (const double weight : weights) {
    exact.push_back(weight / total * static_cast<double>(kPeriod));
    int64_t count = static_cast<int64_t>(std::floor(exact.back()));
    if (weight > 0) count = std::max<int64_t>(count, 1);
    per_period_.push_back(count);
    given += count;
  }
  std::stable_sort(by_remainder.begin(), by_remainder.end(), [&](size_t a, size_t b) {
    return exact[a] - std::floor(exact[a]) > exact[b] - std::floor(exact[b]);
  });
  for (size_t i = 0; given < kPeriod; i = (i + 1) % by_remainder.size()) {
    if (weights[by_remainder[i]] <= 0) continue;
    ++per_period_[by_remainder[i]];
    ++given;
  }
  while (given > kPeriod) {  // a tiny weight was rounded up to one slot
    --*std::max_element(per_period_.begin(), per_period_.end());
    --given;
  }
}

std::vector<int64_t> TaskSchedule::order_of(int64_t period) const {
  std::vector<int64_t> order;
  for (size_t task = 0; task < per_period_.size(); ++task) {
    order.insert(order.end(), static_cast<size_t>(per_period_[task]), static_cast<int64_t>(task));
  }
  CounterRng rng(seed_, combine_streams(0x7461736b, static_cast<uint64_t>(period)));
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
  return order;
}

TaskSchedule::Turn TaskSchedule::at(int64_t slot_number) const {
  const int64_t period = slot_number / kPeriod;
  const auto order = order_of(period);
  const auto here = static_cast<size_t>(slot_number % kPeriod);
  const int64_t task = order[here];
  const auto before = std::count(order.begin(), order.begin() + static_cast<int64_t>(here), task);
  return {task, period * per_period_[static_cast<size_t>(task)] + before};
}

}  // namespace espalier
