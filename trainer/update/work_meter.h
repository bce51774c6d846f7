#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "trainer/stage.h"

namespace espalier {

// How much a step works: positions of sequences and images that go through the model, and
// floating-point operations.
//
// Note [How FLOP/s are estimated]: the first slot of every mix of objectives is counted, forward
// and backward (flop_counter.h); a later one of the same mix is taken to need as many for each of
// its positions. For a decoder without attention this is the 6 N a token of Kaplan et al. 2020 (2 N
// forward, 4 N backward, over N weights in matrix products), and frozen parts cost what they cost.
// What is computed twice on purpose is not counted twice, as in the model FLOPs utilisation of
// Chowdhery et al. 2022 (PaLM), appendix B.
class WorkMeter {
 public:
  explicit WorkMeter(size_t objectives) : untaken_(objectives), interval_(objectives) {}

  // Whether a slot of this mix is to be counted, and what it had.
  bool is_new(const SlotBatch& batch) const { return !flops_per_position_.contains(mix_of(batch)); }
  void learn(const SlotBatch& batch, double flops);

  // A slot of this rank was trained.
  void add(const SlotBatch& batch);
  struct Work {
    std::vector<double> positions;  // by objective
    double flops = 0;

    explicit Work(size_t objectives) : positions(objectives, 0.0) {}
    Work(std::vector<double> of_objectives, double operations)
        : positions(std::move(of_objectives)), flops(operations) {}
    double all_positions() const;
  };
  // Of this rank since the last call.
  Work take();

  // Of all ranks, for so many steps: added to the interval.
  void add_to_interval(const Work& work, int64_t steps);
  Work per_step() const;  // mean over the interval
  void start_interval();

 private:
  static std::vector<int64_t> mix_of(const SlotBatch& batch);  // the objectives of the slot

  std::map<std::vector<int64_t>, double> flops_per_position_;
  Work untaken_, interval_;
  int64_t steps_ = 0;
};

}  // namespace espalier
