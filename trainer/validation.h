#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trainer/named/named_things.h"
#include "trainer/stage.h"

namespace espalier {

// The losses of a stage on samples that it does not train on: those of the objectives whose data
// have a validation split. Without gradients, in the precision of the stage, nothing mirrored and
// no condition dropped; what a loss draws by its nature (masks, noise) it draws the same every
// time. Samples come in the fixed order of a turn: the numbers do not depend on how many ranks
// there are.
class Validation {
 public:
  // Collective: reads the validation splits.
  Validation(NamedThings& things, Stage& stage);
  ~Validation();

  bool is_empty() const { return parts_.empty(); }
  // "validation/total" and "validation/LOSS".
  std::vector<std::string> names() const;

  // Collective; the same on every rank. Of each objective `max_samples` samples (0 = all), rounded
  // up to whole micro-batches: the order then begins anew. The total is the weighted sum.
  std::map<std::string, double> measure(int64_t max_samples);

 private:
  struct Part {
    int64_t objective;  // index in the stage
    std::unique_ptr<Objective> measured;
  };

  void take_over_state();
  std::vector<Turn> turns(const Part& part, int64_t max_samples) const;
  void measure_turn(const Part& part, const Turn& turn, double* sums, double* targets);
  size_t loss_index(const Part& part, const std::string& loss) const;

  NamedThings& things_;
  Stage& stage_;
  std::vector<Part> parts_;
};

}  // namespace espalier
