#pragma once

#include <map>
#include <optional>

namespace espalier {

// What this process started, and what became its child because its parent ended: all are reaped,
// and the status of those that somebody asked for is kept.
class Children {
 public:
  Children();  // orphans of this process's children become its own

  void expect(int pid) { ended_[pid] = std::nullopt; }
  void forget(int pid) { ended_.erase(pid); }
  // Call it several times a second.
  void reap();
  // Once: the status of one that has ended, as a shell shows it (128 + signal).
  std::optional<int> take(int pid);

 private:
  std::map<int, std::optional<int>> ended_;
};

}  // namespace espalier
