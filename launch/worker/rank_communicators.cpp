#include "launch/worker/rank_communicators.h"

#include <cstdlib>

#include <spdlog/spdlog.h>

#include "comm/transport/mpi_communicator.h"
#include "comm/transport/nccl_communicator.h"
#include "comm/transport/single_communicator.h"
#include "trainer/errors.h"
#include "trainer/host/backend_choice.h"
#include "trainer/host/collective_text.h"
#include "trainer/host/device.h"
#include "trainer/host/gpu_choice.h"
#include "trainer/host/host_name.h"

namespace espalier {
namespace {

// Without a build that can tell GPUs apart, what this process was shown has to do.
std::string identity_of(int index) {
  const std::string identity = gpu_identity(index);
  if (!identity.empty()) return identity;
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return "number " + std::to_string(index) + " of " + (visible == nullptr ? "all" : visible);
}

// Collective. Whether ranks share GPUs.
bool agree_on_gpus(Communicator& comm, const RankPlace& place, int index, bool may_share) {
  const RankGpu mine = {host_name(), identity_of(index), index};
  spdlog::info("GPU {} of {} ({}): {}", index, mine.host, mine.identity,
               why_this_gpu(place.local_rank));
  std::vector<RankGpu> ranks;
  for (const std::string& line : gather_text(comm, to_line(mine))) {
    ranks.push_back(rank_gpu_of_line(line));
  }
  return check_gpu_sharing(ranks, may_share);
}

std::unique_ptr<Communicator> make_bootstrap(const RunConfig& config, const RankPlace& place,
                                             const CommunicatorOptions& options) {
  if (place.world_size == 1 && config.compute.communicator != "mpi") {
    return make_single_communicator(options);
  }
  auto mpi = make_mpi_communicator(options);
  if (mpi->size() != place.world_size) {
    throw ConfigError("the launcher says " + std::to_string(place.world_size) +
                      " ranks and MPI says " + std::to_string(mpi->size()) +
                      ": mpirun belongs to another MPI than the one this program is linked with");
  }
  return mpi;
}

}  // namespace

RankCommunicators::RankCommunicators(const RunConfig& config, const RankPlace& place,
                                     const std::string& dump_directory,
                                     std::shared_ptr<CollectiveWatch> watch) {
  const at::Device device = choose_device(config.compute, place.local_rank);
  BackendFacts facts;
  facts.world_size = place.world_size;
  facts.is_on_gpu = device.is_cuda();
  facts.has_nccl = device.is_cuda() && nccl_is_available();
  // Before MPI starts, which a wrong config is not worth.
  choose_backend(config.compute, facts);

  CommunicatorOptions options;
  options.timeout_s = config.deadline.mpi;
  options.abort_grace_s = config.deadline.abort_grace;
  options.dump_directory = dump_directory;
  options.watch = std::move(watch);
  bootstrap_ = make_bootstrap(config, place, options);
  if (device.is_cuda()) {
    facts.is_gpu_shared =
        agree_on_gpus(*bootstrap_, place, device.index(), config.compute.share_gpu);
  }
  const BackendChoice choice = choose_backend(config.compute, facts);
  if (choice.backend == Backend::kNccl) {
    options.timeout_s = config.deadline.nccl;
    nccl_ = make_nccl_communicator(*bootstrap_, device.index(), options);
  }
  if (place.rank == 0) {
    spdlog::info("{}; {} rank{} over {}, because {}", place.why, place.world_size,
                 place.world_size == 1 ? "" : "s", get().backend(), choice.why);
  }
}

}  // namespace espalier
