#include "launch/slurm/requeue.h"

#include <chrono>

#include "launch/slurm/program_output.h"

namespace espalier {
namespace {

// A job that was cancelled, or preempted by a partition that cancels, is not to come back. Slurm
// calls every job COMPLETING whose processes it is ending.
bool is_to_go_on(const SlurmJob& job) {
  return job.state == "RUNNING" || job.state == "TIMEOUT" || job.reason == "TimeLimit";
}

}  // namespace

RequeueDecision decide_requeue(RequeueWish wish, const std::string& job_id,
                               const std::optional<SlurmJob>& job, int64_t starts_without_commit,
                               int64_t allowed_without_commit) {
  if (job_id.empty() || wish == RequeueWish::kNever) return {};
  const std::string name = "Slurm job " + job_id;
  if (!job) {
    return {false, false,
            name +
                " is not queued again: scontrol is missing or does not answer. A site's "
                "RequeueExit=75 does it too, or submit it again"};
  }
  if (!job->is_batch) return {};
  if (!is_to_go_on(*job)) {
    return {false, false, name + " is not queued again: Slurm is ending it (" + job->state + ")"};
  }
  if (starts_without_commit >= allowed_without_commit) {
    return {false, true,
            name + " is not queued again: " + std::to_string(starts_without_commit) +
                " starts in a row were stopped before a new checkpoint; give it more time"};
  }
  if (!job->may_requeue && wish != RequeueWish::kAlways) {
    return {false, false,
            name + " is not queued again: it was submitted without --requeue; submit it again"};
  }
  return {true, false, name + " is queued again"};
}

std::string requeue_slurm_job(const std::string& job_id) {
  // It says nothing when all is well.
  std::string said = program_output({"scontrol", "requeue", job_id}, std::chrono::seconds(20));
  while (!said.empty() && said.back() == '\n') said.pop_back();
  return said;
}

}  // namespace espalier
