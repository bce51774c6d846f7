// Runs under `mpirun -n N comm_mpi_tests N`; every rank runs every test.
#include "comm/transport/mpi_communicator.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>

#include "communicator_checks.h"
#include "reduction/gradient_reducer_checks.h"

namespace espalier {
namespace {

// Set by main, for all tests: MPI starts once per process.
Communicator* world = nullptr;
std::string expected_ranks;

TEST(MpiCommunicator, HasTheRanksOfMpirun) {
  EXPECT_EQ(std::to_string(world->size()), expected_ranks);
  EXPECT_EQ(world->backend(), "mpi");
}

TEST(MpiCommunicator, ReducesEveryType) { check_reductions_of_every_type(*world); }

TEST(MpiCommunicator, GivesLargeSumsTheSameBitsEverywhere) {
  check_large_sums_have_the_same_bits_everywhere(*world);
}

TEST(MpiCommunicator, BroadcastsAndGathers) { check_broadcast_and_gather(*world); }

TEST(MpiCommunicator, FinishesOperationsInOrder) {
  check_operations_in_flight_finish_in_order(*world);
}

TEST(MpiCommunicator, ChecksItsArguments) {
  check_preconditions(*world);
  EXPECT_THROW(world->all_reduce(at::empty({3}, at::kMeta)), c10::Error);
}

TEST(MpiCommunicator, SecondOneOfAProcessUsesTheRunningMpi) {
  const auto second = make_mpi_communicator({.timeout_s = 20}, {.slot_bytes = 4096});
  check_reductions_of_every_type(*second);
  check_operations_in_flight_finish_in_order(*second);
  world->barrier();
}

// Everything that a backend does, on a communicator of its own for the time of a test.
void check_everything_with(const MpiOptions& options) {
  {
    const auto communicator = make_mpi_communicator({.timeout_s = 20}, options);
    check_reductions_of_every_type(*communicator);
    check_large_sums_have_the_same_bits_everywhere(*communicator);
    check_broadcast_and_gather(*communicator);
    check_operations_in_flight_finish_in_order(*communicator);
    EXPECT_EQ(communicator->watch()->latest().operation, "");
  }
  world->barrier();
}

// With four ranks 2 x 2, which is a hierarchy; with three 2 + 1, which is one ring.
TEST(MpiCommunicator, JoinsMachinesOfSeveralRanks) {
  check_everything_with({.node = world->rank() * 2 / world->size()});
}

TEST(MpiCommunicator, JoinsMachinesWhoseRanksAreDealtOutInTurn) {
  check_everything_with({.node = world->rank() % 2});
}

TEST(MpiCommunicator, CarriesEverythingByMessages) {
  check_everything_with({.shares_memory = false});
}

// As tensors on a GPU do.
TEST(MpiCommunicator, CarriesCopiesOfTensorsAndBringsResultsBack) {
  check_everything_with({.stages_tensors = true});
  const auto communicator = make_mpi_communicator({.timeout_s = 20}, {.stages_tensors = true});
  const at::Tensor ordered = at::ones({1000});
  communicator->all_reduce(ordered)->order_stream();
  EXPECT_TRUE(ordered.eq(world->size()).all().item<bool>());
  const at::Tensor untouched = at::ones({1000});
  const auto work = communicator->all_reduce(untouched);
  EXPECT_TRUE(untouched.eq(1).all().item<bool>()) << "came back before anybody asked";
  work->wait();
  EXPECT_TRUE(untouched.eq(world->size()).all().item<bool>());
}

TEST(MpiCommunicator, RecordsStartAndEndOfItsOperations) {
  const auto before = world->watch()->latest();
  world->all_reduce(at::ones({10}))->wait();
  const auto after = world->watch()->latest();
  EXPECT_EQ(after.issued, before.issued + 1);
  EXPECT_EQ(after.completed, after.issued);
  EXPECT_EQ(after.operation, "");
}

TEST(GradientReducerOverMpi, SumsDifferentTasksIntoTheGradientsOfTheUnion) {
  check_gradients_equal_the_union_of_batches(*world, /*slots=*/world->size());
}

TEST(GradientReducerOverMpi, AccumulatesSeveralMicroBatches) {
  check_gradients_equal_the_union_of_batches(*world, /*slots=*/12);
}

TEST(GradientReducerOverMpi, GoesOnWhenARankHasNothingToDo) {
  check_gradients_equal_the_union_of_batches(*world, /*slots=*/world->size() - 1);
}

TEST(GradientReducerOverMpi, SendsBucketsDuringBackward) {
  check_buckets_travel_during_backward(*world);
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const auto communicator = espalier::make_mpi_communicator({.timeout_s = 30});
  espalier::world = communicator.get();
  espalier::expected_ranks = argc > 1 ? argv[1] : "";
  return RUN_ALL_TESTS();
}
