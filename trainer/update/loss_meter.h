#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainer/stage.h"

namespace espalier {

// Means of losses between two lines of a log: every loss over its own targets, so that a line does
// not jump because an objective had fewer slots in one step. A loss without targets since the last
// line keeps its value, and the weighted total compares from line to line.
class LossMeter {
 public:
  explicit LossMeter(const std::vector<StageLoss>& losses);

  // Sums and targets of one step, by loss, over all ranks.
  void add(const std::vector<double>& sums, const std::vector<double>& targets);
  // A line was written: means start anew.
  void start_interval();

  std::map<std::string, double> means() const;  // of losses that ever had targets
  double total() const;                         // weighted sum of these

 private:
  std::vector<StageLoss> losses_;
  std::vector<double> sums_, targets_;  // since the last line
  std::vector<double> latest_;          // means
  std::vector<bool> has_value_;
};

}  // namespace espalier
