#pragma once

namespace espalier {

// Hardware threads that this process may run on: a launcher, taskset or a container may have left
// it fewer than the machine has.
int usable_cores();

// The share of one of `local_ranks` ranks of this machine.
int cores_per_rank(int local_ranks);

}  // namespace espalier
