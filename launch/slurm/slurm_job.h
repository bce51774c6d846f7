#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// The job that this process runs in, as scontrol takes it: "12", or "12_3" for a task of an array,
// whose plain number may stand for the whole array. Empty outside of a job.
std::string slurm_job_id(const std::function<const char*(const char*)>& environment);

// What `scontrol show job` says of a job.
struct SlurmJob {
  std::string state;      // RUNNING, COMPLETING, CANCELLED, ...
  std::string reason;     // of a job that Slurm ends: TimeLimit
  bool is_batch = false;  // not salloc's or srun's
  bool may_requeue = false;
  int restarts = 0;
  std::optional<double> end;  // Unix time of its limit
};
std::vector<std::string> show_slurm_job(const std::string& id);  // the command that says it
// Nothing for what is no such answer: scontrol is missing, or its controller does not answer.
std::optional<SlurmJob> parse_slurm_job(std::string_view text);
// Asks; for at most ten seconds.
std::optional<SlurmJob> ask_slurm_job(const std::string& id);

}  // namespace espalier
