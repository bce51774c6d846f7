#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "launch/worker/launcher_detection.h"
#include "trainer/config/run_config.h"

namespace espalier {

// How the ranks of a run reach each other. NCCL finds its peers through MPI, so there may be two,
// with one flight recorder.
class RankCommunicators {
 public:
  // Collective. Says in the log which GPU and which backend it took, and why. Throws ConfigError on
  // every rank for what the config or the launcher got wrong. `dump_directory`: where a deadline
  // leaves the flight recorder `watch`; made when it is needed.
  RankCommunicators(const RunConfig& config, const RankPlace& place,
                    const std::string& dump_directory, std::shared_ptr<CollectiveWatch> watch);

  Communicator& get() { return nccl_ ? *nccl_ : *bootstrap_; }
  // For what lies in host memory; null where get() is the one for it too.
  Communicator* control() { return nccl_ ? bootstrap_.get() : nullptr; }

 private:
  std::unique_ptr<Communicator> bootstrap_;
  std::unique_ptr<Communicator> nccl_;
};

}  // namespace espalier
