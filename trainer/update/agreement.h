#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"

namespace espalier {

// What the ranks tell each other once per step, in one all-reduce of a few doubles. Each rank fills
// in its own; agree() makes the sums of it.
struct Agreement {
  std::vector<double> targets;    // valid targets of the step about to be trained, by loss
  std::vector<double> loss_sums;  // of the step before, by loss
  std::vector<double> positions;  // of the same steps, by objective, and an estimate of
  double flops = 0;               // their floating-point operations (update/work_meter.h)
  double wants_to_stop = 0;       // ranks that were asked to stop
  double cut_off = 0;             // ranks whose coordinator is away
  double writing_checkpoint = 0;  // ranks whose thread still writes one

  Agreement(size_t losses, size_t objectives)
      : targets(losses, 0.0), loss_sums(losses, 0.0), positions(objectives, 0.0) {}
};

// Collective. The sums over ranks.
Agreement agree(Communicator& comm, const Agreement& mine);

// Sums of losses as numbers; what was not computed counts 0.
std::vector<double> loss_numbers(const std::vector<at::Tensor>& sums, size_t losses);

}  // namespace espalier
