#pragma once

#include <optional>
#include <string>

#include "launch/slurm/slurm_job.h"

namespace espalier {

enum class RequeueWish { kAuto, kAlways, kNever };

struct RequeueDecision {
  bool requeue = false;
  bool is_hopeless = false;  // and starting again is of no use
  std::string why;           // for people; empty where there is nothing to say
};

// Whether a run that stopped with a checkpoint has its job queued again. `starts_without_commit`:
// how many starts of the run in a row have ended without a new one. Pure.
RequeueDecision decide_requeue(RequeueWish wish, const std::string& job_id,
                               const std::optional<SlurmJob>& job, int64_t starts_without_commit,
                               int64_t allowed_without_commit);

// `scontrol requeue`. Returns what went wrong; empty when the job is queued again, and Slurm is
// about to end this process.
std::string requeue_slurm_job(const std::string& job_id);

}  // namespace espalier
