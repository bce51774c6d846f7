#pragma once

#include <cstdint>
#include <string>

#include "comm/communicator.h"

namespace espalier {

// File systems over a network may show what another host wrote some seconds late.
inline constexpr double kTimeToShow_s = 5;

// Collective. Throws ConfigError on every rank, with the ranks, their hosts and what to do, when
// one of them does not see a file that rank 0 makes in `directory`.
void require_shared_directory(Communicator& comm, const std::string& directory,
                              double patience_s = kTimeToShow_s);

// Waits until `path` has that size. Returns what is there instead when it does not come, "" = it is
// as it should be.
std::string wait_for_file(const std::string& path, int64_t bytes,
                          double patience_s = kTimeToShow_s);

}  // namespace espalier
