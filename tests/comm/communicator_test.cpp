#include <gtest/gtest.h>
#include <torch/torch.h>

#include <stdexcept>

#include "comm/errors.h"
#include "comm/transport/nccl_communicator.h"
#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "communicator_checks.h"

namespace espalier {
namespace {

void check_everything(Communicator& communicator, at::Device device = at::kCPU) {
  check_reductions_of_every_type(communicator, device);
  check_large_sums_have_the_same_bits_everywhere(communicator, device);
  check_broadcast_and_gather(communicator, device);
  check_operations_in_flight_finish_in_order(communicator, device);
  check_preconditions(communicator);
}

TEST(SingleCommunicator, DoesWhatEveryBackendDoes) {
  const auto communicator = make_single_communicator();
  check_everything(*communicator);
}

class ThreadCommunicators : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, ThreadCommunicators, testing::Values(1, 2, 3, 4));

TEST_P(ThreadCommunicators, DoWhatEveryBackendDoes) {
  run_ranks(GetParam(), [](Communicator& communicator) { check_everything(communicator); });
}

TEST(ThreadCommunicator, NamesTheRankThatDoesNotCome) {
  const auto ranks = make_thread_communicators(3, {.timeout_s = 0.1});
  const auto work = ranks[0]->all_reduce(at::ones({2}));
  ranks[2]->all_reduce(at::ones({2}));
  try {
    work->wait();
    FAIL() << "no Timeout";
  } catch (const Timeout& error) {
    EXPECT_EQ(error.operation(), "all_reduce(Float[2], sum)");
    EXPECT_EQ(error.seconds(), 0.1);
    EXPECT_NE(std::string(error.what()).find("missing ranks 1"), std::string::npos) << error.what();
  }
}

TEST(ThreadCommunicator, FailsAtWaitOnEveryRankWhenOperationsDiffer) {
  const auto ranks = make_thread_communicators(2);
  const auto first = ranks[0]->all_reduce(at::ones({2}));
  const auto second = ranks[1]->all_reduce(at::ones({3}));
  EXPECT_THROW(first->wait(), ProtocolError);
  EXPECT_THROW(second->wait(), ProtocolError);
  EXPECT_THROW(second->wait(), ProtocolError);
}

TEST(ThreadCommunicator, StaysDeadAfterAFailure) {
  const auto ranks = make_thread_communicators(2);
  ranks[0]->all_reduce(at::ones({2}));
  ranks[1]->all_reduce(at::ones({3}));
  EXPECT_THROW(ranks[0]->all_reduce(at::ones({2}))->wait(), ProtocolError);
}

TEST(ThreadCommunicator, LosesAPeerThatEnded) {
  auto ranks = make_thread_communicators(2);
  const auto before = ranks[0]->all_reduce(at::ones({2}));
  ranks[1].reset();
  EXPECT_THROW(before->wait(), PeerLost);
  EXPECT_THROW(ranks[0]->all_reduce(at::ones({2}))->wait(), PeerLost);
}

TEST(ThreadCommunicator, EndsEveryWaitWhenItIsAborted) {
  const auto ranks = make_thread_communicators(2);
  const auto work = ranks[0]->all_reduce(at::ones({2}));
  ranks[1]->abort("a peer was reported dead");
  EXPECT_THROW(work->wait(), CommError);
  EXPECT_THROW(ranks[1]->all_reduce(at::ones({2}))->wait(), CommError);
}

TEST(SingleCommunicator, FailsAtWaitOnceItIsAborted) {
  const auto communicator = make_single_communicator();
  communicator->abort("told to");
  const auto work = communicator->all_reduce(at::ones({2}));
  EXPECT_THROW(work->wait(), CommError);
}

TEST(RunRanks, RethrowsTheCauseAndNotItsEcho) {
  const auto body = [](Communicator& communicator) {
    if (communicator.rank() == 1) throw std::invalid_argument("the cause");
    communicator.barrier();
  };
  EXPECT_THROW(run_ranks(3, body), std::invalid_argument);
}

TEST(NcclCommunicator, RefusesADeviceThatIsNotThere) {
  const auto bootstrap = make_single_communicator();
  EXPECT_THROW(make_nccl_communicator(*bootstrap, /*device=*/1000, {.timeout_s = 60}), CommError);
}

// One test per GPU of this machine; none without.
class NcclCommunicators : public testing::TestWithParam<int> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(NcclCommunicators);
INSTANTIATE_TEST_SUITE_P(Devices, NcclCommunicators,
                         testing::Range(0, nccl_is_available()
                                               ? static_cast<int>(torch::cuda::device_count())
                                               : 0));

TEST_P(NcclCommunicators, DoWhatEveryBackendDoes) {
  const auto bootstrap = make_single_communicator();
  const auto communicator = make_nccl_communicator(*bootstrap, GetParam(), {.timeout_s = 60});
  check_everything(*communicator, at::Device(at::kCUDA, static_cast<int8_t>(GetParam())));
}

}  // namespace
}  // namespace espalier
