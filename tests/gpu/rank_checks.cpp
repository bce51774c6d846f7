#include "tests/gpu/rank_checks.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/errors.h"
#include "comm/transport/mpi_communicator.h"
#include "comm/transport/nccl_communicator.h"
#include "comm/transport/single_communicator.h"
#include "communicator_checks.h"
#include "tests/gpu/timing.h"

namespace espalier {
namespace {

constexpr double kPatience_s = 60;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Ranks::Ranks(const RankOptions& options) {
  const bool has_launcher = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
  if (has_launcher || options.backend == "mpi") {
    bootstrap_ = make_mpi_communicator(
        {.timeout_s = options.backend == "mpi" ? options.deadline_s : kPatience_s});
  } else {
    bootstrap_ = make_single_communicator();
  }
  if (options.backend != "nccl") return;
  const auto device = options.device.index();
  // The first one loads NCCL's kernels, which takes longer than a short deadline.
  make_nccl_communicator(*bootstrap_, device, {kPatience_s})->barrier();
  chosen_ = make_nccl_communicator(*bootstrap_, device, {options.deadline_s});
}

nlohmann::json check_ranks(const RankOptions& options) {
  Ranks ranks(options);
  Communicator& comm = ranks.get();
  const at::Device device = options.device;
  check_reductions_of_every_type(comm, device);
  check_large_sums_have_the_same_bits_everywhere(comm, device);
  check_broadcast_and_gather(comm, device);
  check_operations_in_flight_finish_in_order(comm, device);
  check_preconditions(comm);
  TORCH_CHECK(!testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed(),
              "the communicator fails what tests/comm asks of it; see above");
  const at::Tensor tensor = at::ones({16 << 20}, device);
  const auto reduce = [&] { comm.all_reduce(tensor)->wait(); };
  const auto seconds = seconds_per_call(device, 5, 3, reduce);
  return {{"ranks", comm.size()},
          {"backend", comm.backend()},
          {"all_reduce_64_MiB_ms", seconds[seconds.size() / 2] * 1e3},
          {"nccl", options.backend == "nccl" ? nccl_version() : ""}};
}

nlohmann::json check_stopped_rank(const RankOptions& options) {
  Ranks ranks(options);
  Communicator& comm = ranks.get();
  const at::Tensor tensor = at::ones({1024}, options.device);
  comm.all_reduce(tensor)->wait();
  if (comm.rank() == options.stopped_rank) std::raise(SIGSTOP);
  const auto start = std::chrono::steady_clock::now();
  try {
    comm.all_reduce(tensor)->wait();
  } catch (const Timeout& error) {
    return {{"given_up_after_s", seconds_since(start)},
            {"deadline_s", options.deadline_s},
            {"message", error.what()}};
  }
  TORCH_CHECK(false, "an operation that a stopped rank did not take part in ended well");
}

}  // namespace espalier
