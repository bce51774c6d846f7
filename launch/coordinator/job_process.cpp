#include "launch/coordinator/job_process.h"

#include <csignal>

namespace espalier {

void JobProcess::start(const LaunchRequest& request) {
  pid_ = spawn_launcher(request, this_machine());
  start_time_ = process_start_time(pid_);
  children_.expect(pid_);
  is_child_ = true;
  is_srun_ = request.launcher == LauncherKind::kSrun;
  ranks_.clear();
}

bool JobProcess::adopt(int pid, uint64_t start_time) {
  if (!espalier::is_alive(pid, start_time)) return false;
  pid_ = pid;
  start_time_ = start_time;
  is_child_ = false;
  return true;
}

void JobProcess::add_local_rank(int pid) { ranks_[pid] = process_start_time(pid); }

bool JobProcess::is_alive(int rank_pid) const {
  const auto rank = ranks_.find(rank_pid);
  return rank != ranks_.end() && espalier::is_alive(rank->first, rank->second);
}

// srun kills its ranks at once when it is asked; but when one has died already it gives the others
// Slurm's KillWait, half a minute, and hears no second request. Its own end, they do not outlive.
void JobProcess::ask_to_end() {
  if (is_srun_) return kill();
  if (espalier::is_alive(pid_, start_time_)) ::kill(pid_, SIGTERM);
}

void JobProcess::kill() {
  if (espalier::is_alive(pid_, start_time_)) {
    // With what it started on this machine: its agents wait for hosts that may be no more.
    for (const int pid : processes_of_session(pid_)) ::kill(pid, SIGKILL);
  }
  kill_ranks();
}

void JobProcess::kill_ranks() {
  for (const auto& [pid, start_time] : ranks_) {
    if (espalier::is_alive(pid, start_time)) ::kill(pid, SIGKILL);
  }
}

std::optional<int> JobProcess::poll() {
  std::optional<int> ended;
  if (pid_ != 0 && is_child_) {
    ended = children_.take(pid_);
  } else if (pid_ != 0 && !espalier::is_alive(pid_, start_time_)) {
    ended = -1;
  }
  if (ended) pid_ = 0;
  return ended;
}

}  // namespace espalier
