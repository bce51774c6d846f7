#include "trainer/interference/measure_window.h"

#include <algorithm>
#include <cmath>

namespace espalier {
namespace {

bool has_both_halves(const std::vector<std::array<int64_t, 2>>& turns,
                     const std::vector<bool>& measured) {
  for (size_t i = 0; i < turns.size(); ++i) {
    if (measured[i] && (turns[i][0] == 0 || turns[i][1] == 0)) return false;
  }
  return true;
}

}  // namespace

MeasureWindow measure_window(const StepPlan& plan, const std::vector<bool>& measured, int64_t first,
                             int64_t end) {
  MeasureWindow window{first, 0, std::vector<std::array<int64_t, 2>>(measured.size())};
  while (window.steps < kMostSteps && window.end() < end) {
    for (int64_t slot = 0; slot < plan.slots(); ++slot) {
      for (const Turn& turn : plan.turns(window.end(), slot)) {
        ++window.turns[static_cast<size_t>(turn.objective)][half_of(turn)];
      }
    }
    ++window.steps;
    if (has_both_halves(window.turns, measured)) break;
  }
  return window;
}

int64_t first_measure(int64_t step, int64_t every_steps) {
  return (step + every_steps) / every_steps * every_steps - 1;
}

int64_t next_measure(int64_t first, int64_t end, int64_t every_steps, double cost_s, double step_s,
                     double budget) {
  constexpr double kMostApart = 1e9;  // steps
  double apart = 0;
  if (step_s > 0 && cost_s > 0) apart = std::min(kMostApart, std::ceil(cost_s / (budget * step_s)));
  return first_measure(std::max(end, first + static_cast<int64_t>(apart)), every_steps);
}

}  // namespace espalier
