#include "launch/coordinator/children.h"

#include <sys/prctl.h>
#include <sys/wait.h>

namespace espalier {

Children::Children() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

void Children::reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    const auto child = ended_.find(pid);
    if (child == ended_.end()) continue;
    child->second = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
}

std::optional<int> Children::take(int pid) {
  const auto child = ended_.find(pid);
  if (child == ended_.end() || !child->second) return std::nullopt;
  const int status = *child->second;
  ended_.erase(child);
  return status;
}

}  // namespace espalier
