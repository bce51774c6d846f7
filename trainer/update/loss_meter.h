#pragma once

#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "trainer/stage.h"

namespace espalier {

// Means of losses over the interval between two lines of a log, every loss over its own targets, so
// that a line neither is one lucky step nor jumps because an objective had fewer slots in it. A
// loss whose objective was not drawn in the interval has no mean.
//
// Note [The total of a line]: total = sum over losses of weight x mean. A step trains on weight x
// share_of_step x mean, where share_of_step (Stage) is the slots that the objective got over those
// that its share of the config gives it on average: 1 in the long run, however the shares are. So
// the total is what the stage minimises, as if the interval's slots had been dealt out exactly by
// the shares. A loss that was not drawn in the interval stands in it with its newest mean, so that
// lines compare; until each was drawn once the total is of those that were.
class LossMeter {
 public:
  explicit LossMeter(const std::vector<StageLoss>& losses);

  // Sums and targets of one step or more, by loss, over all ranks.
  void add(const std::vector<double>& sums, const std::vector<double>& targets);
  // A line was written: means start anew.
  void start_interval();

  std::map<std::string, double> means() const;  // of losses with targets in the interval
  double total() const;

  // What a checkpoint keeps, so that the lines after it are those of the run that never stopped.
  // Losses are told by name; what is missing starts anew.
  nlohmann::json state() const;
  void restore(const nlohmann::json& state);

 private:
  struct Entry {
    StageLoss loss;
    double sum = 0, targets = 0;  // of the interval
    double newest = 0;            // mean, of this interval or an earlier one
    bool was_drawn = false;       // ever
  };
  std::vector<Entry> entries_;
};

}  // namespace espalier
