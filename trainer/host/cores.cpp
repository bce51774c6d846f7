#include "trainer/host/cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>

namespace espalier {
namespace {

int cores_of_machine() {
  return static_cast<int>(std::max<long>(1, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

}  // namespace

int usable_cores() {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return cores_of_machine();
  return std::max(1, CPU_COUNT(&allowed));
}

// A rank that its launcher has bound (mpirun does, to one core) does not share what it is bound to.
// Two threads on one core wait for each other in oneDNN's barriers, which spin: a step takes a
// hundred times as long.
int cores_per_rank(int local_ranks) {
  const int share = std::max(1, cores_of_machine() / std::max(1, local_ranks));
  return std::min(share, usable_cores());
}

}  // namespace espalier
