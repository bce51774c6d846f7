#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "launch/coordinator/children.h"
#include "launch/coordinator/job_launcher.h"

namespace espalier {

// The processes of one launch on this machine: the launcher, and those of the ranks that it started
// here. Ranks elsewhere are ended through the launcher, or by themselves when they are told.
class JobProcess {
 public:
  explicit JobProcess(Children& children) : children_(children) {}

  // Throws std::runtime_error when the launcher cannot be started.
  void start(const LaunchRequest& request);
  // A launcher that a coordinator before this one started. False: it is gone.
  bool adopt(int pid, uint64_t start_time);
  void add_local_rank(int pid);

  int pid() const { return pid_; }
  uint64_t start_time() const { return start_time_; }
  bool is_alive(int rank_pid) const;

  void ask_to_end();
  void kill();
  // A rank that outlives its launcher holds the run directory and could still write into it.
  void kill_ranks();

  // Once, when the launcher has ended: its status as a shell shows it; -1 when it was adopted, and
  // nobody can know. Call it after Children::reap().
  std::optional<int> poll();

 private:
  Children& children_;
  int pid_ = 0;  // 0: no launcher
  uint64_t start_time_ = 0;
  bool is_child_ = true;
  bool is_srun_ = false;
  std::map<int, uint64_t> ranks_;  // start time by pid
};

}  // namespace espalier
