#include "trainer/host/gpu_choice.h"

#include <map>
#include <sstream>
#include <utility>

#include "trainer/errors.h"

namespace espalier {

GpuChoice choose_gpu(const VisibleGpus& gpus) {
  const std::string rank = std::to_string(gpus.local_rank);
  const std::string count = std::to_string(gpus.count);
  if (gpus.count == 1) {
    if (gpus.setting.empty()) return {0, "it is the only one of this machine"};
    return {0, "it is the only one that CUDA_VISIBLE_DEVICES=" + gpus.setting + " shows"};
  }
  const std::string whose = "this is rank " + rank + " of its machine, which shows " + count;
  if (gpus.local_rank < gpus.count) return {gpus.local_rank, whose};
  return {gpus.local_rank % gpus.count, whose + ", so the numbers go round"};
}

bool check_gpu_sharing(const std::vector<RankGpu>& ranks, bool may_share) {
  std::map<std::pair<std::string, std::string>, int> taken;
  bool is_shared = false;
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    const RankGpu& gpu = ranks[rank];
    const auto [first, is_new] = taken.try_emplace({gpu.host, gpu.identity}, rank);
    if (is_new) continue;
    is_shared = true;
    if (may_share) continue;
    throw ConfigError(
        "ranks " + std::to_string(first->second) + " and " + std::to_string(rank) +
        " both took GPU " + std::to_string(gpu.index) + " of " + gpu.host + " (" + gpu.identity +
        "): start one rank per GPU (mpirun --map-by ppr:GPUS:node, srun --ntasks-per-node with "
        "--gpus-per-task=1), or set compute.share_gpu = true, which is slower than one rank");
  }
  return is_shared;
}

std::string to_line(const RankGpu& gpu) {
  return gpu.host + '\t' + gpu.identity + '\t' + std::to_string(gpu.index);
}

RankGpu rank_gpu_of_line(const std::string& line) {
  std::istringstream fields(line);
  RankGpu gpu;
  std::getline(fields, gpu.host, '\t');
  std::getline(fields, gpu.identity, '\t');
  fields >> gpu.index;
  return gpu;
}

}  // namespace espalier
