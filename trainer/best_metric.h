#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "trainer/config/run_config.h"

namespace espalier {

// The number by which a stage's best checkpoint is told, and after which it may end early:
// checkpoint.best where the stage has it, else "validation/total" where it may end early; "" =
// none.
std::string watched_metric(const RunConfig& config, const StageConfig& stage);

// ConfigError: checkpoint.best names nothing that any stage has, or nothing would ever measure it.
void validate_best_metric(const RunConfig& config);

// The best of the evaluations of a stage so far.
class BestSoFar {
 public:
  // False: it is not better than the best. What is not finite never is.
  bool note(double value, bool is_lower_better, int64_t step);
  int64_t without_improvement() const { return without_improvement_; }  // evaluations since
  int64_t step() const { return step_; }                                // of the stage; -1 = none
  double value() const { return value_; }

  nlohmann::json state() const;  // for a checkpoint; null = none yet
  void restore(const nlohmann::json& state);

 private:
  int64_t step_ = -1;
  double value_ = 0;
  int64_t without_improvement_ = 0;
};

}  // namespace espalier
