#pragma once

#include <string>
#include <vector>

namespace espalier {

// What a rank knows of the GPUs before it takes one.
struct VisibleGpus {
  int count = 0;        // as CUDA shows them to this process
  std::string setting;  // CUDA_VISIBLE_DEVICES; empty where it is not set
  int local_rank = 0;   // among the ranks of this machine
};

struct GpuChoice {
  int index = 0;
  std::string why;
};

// Launchers show each task its own GPU, or all tasks all of them: the only visible one, or the one
// of this rank's number among the ranks of its machine. With fewer GPUs than ranks the numbers go
// round; whether that may be is for check_gpu_sharing(). `gpus.count` is positive.
GpuChoice choose_gpu(const VisibleGpus& gpus);

// The GPU that a rank took.
struct RankGpu {
  std::string host;
  std::string identity;  // the same for the same GPU, whatever each process calls it
  int index = 0;         // as CUDA shows them to that process
};

// Whether two ranks of a machine took one GPU. Throws ConfigError, which names ranks and GPU, and
// says what to do, unless `may_share`. All ranks, by number; the same result on each.
bool check_gpu_sharing(const std::vector<RankGpu>& ranks, bool may_share);

// Through one line of text and back, to exchange them between ranks.
std::string to_line(const RankGpu& gpu);
RankGpu rank_gpu_of_line(const std::string& line);

}  // namespace espalier
