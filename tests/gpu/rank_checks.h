#pragma once

#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"

namespace espalier {

struct RankOptions {
  std::string backend = "mpi";  // or nccl
  at::Device device = at::kCPU;
  double deadline_s = 60;
  int stopped_rank = -1;  // this one stops itself (SIGSTOP) after the first operation
};

// The world of the launcher that started this process: one rank without a launcher.
class Ranks {
 public:
  explicit Ranks(const RankOptions& options);
  Communicator& get() { return chosen_ ? *chosen_ : *bootstrap_; }

 private:
  std::unique_ptr<Communicator> bootstrap_, chosen_;  // NCCL finds its peers through the first
};

// Everything that tests/comm asks of a communicator, then the rate of an all-reduce of 64 MiB.
nlohmann::json check_ranks(const RankOptions& options);

// One rank stops itself. The others must be told by Timeout, not wait for ever; says after how many
// seconds, and with what words.
nlohmann::json check_stopped_rank(const RankOptions& options);

// A kernel that spins for `hold_s` holds the stream that an NCCL operation waits for, longer than
// the deadline: the operation must end in Timeout long before the kernel does.
nlohmann::json check_held_stream(double deadline_s, double hold_s);

}  // namespace espalier
