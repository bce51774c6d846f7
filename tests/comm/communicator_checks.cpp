#include "communicator_checks.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <vector>

namespace espalier {
namespace {

at::Tensor random_of_rank(int rank, int64_t elements) {
  auto generator = at::detail::createCPUGenerator(/*seed=*/100 + rank);
  return at::randn({elements}, generator);
}

}  // namespace

void check_reductions_of_every_type(Communicator& communicator, at::Device device) {
  const int size = communicator.size();
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kInt, at::kLong, at::kByte}) {
    const auto options = at::TensorOptions().dtype(type).device(device);
    const at::Tensor base = at::arange(1, 8, options);
    const at::Tensor mine = base + communicator.rank();

    const at::Tensor sum = mine.clone();
    communicator.all_reduce(sum)->wait();
    EXPECT_TRUE(sum.equal(base * size + size * (size - 1) / 2)) << type << sum;

    const at::Tensor largest = mine.clone();
    communicator.all_reduce(largest, ReduceOp::kMax)->wait();
    EXPECT_TRUE(largest.equal(base + (size - 1))) << type << largest;

    const at::Tensor smallest = mine.clone();
    communicator.all_reduce(smallest, ReduceOp::kMin)->wait();
    EXPECT_TRUE(smallest.equal(base)) << type << smallest;
  }
}

void check_large_sums_have_the_same_bits_everywhere(Communicator& communicator, at::Device device) {
  constexpr int64_t kElements = 3'000'001;  // 12 MB: several pieces, the last one odd
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor mine = random_of_rank(communicator.rank(), kElements).to(device).to(type);
    const at::Tensor first = mine.clone();
    const at::Tensor second = mine.clone();
    communicator.all_reduce(first)->wait();
    communicator.all_reduce(second)->wait();
    EXPECT_TRUE(first.equal(second)) << "not the same twice";

    const at::Tensor all = at::empty({communicator.size(), kElements}, first.options());
    communicator.all_gather(first, all)->wait();
    at::Tensor expected = at::zeros({kElements}, at::kFloat);
    for (int rank = 0; rank < communicator.size(); ++rank) {
      EXPECT_TRUE(all[rank].equal(first)) << "rank " << rank << " has other bits";
      expected += random_of_rank(rank, kElements).to(type).to(at::kFloat);
    }
    const double tolerance = type == at::kFloat ? 1e-5 : 0.05;
    EXPECT_TRUE(at::allclose(first.to(at::kCPU, at::kFloat), expected, tolerance, tolerance));
  }
}

void check_broadcast_and_gather(Communicator& communicator, at::Device device) {
  const int rank = communicator.rank();
  for (int root = 0; root < communicator.size(); ++root) {
    const at::Tensor flags = at::full({5}, rank == root, at::device(device).dtype(at::kBool));
    communicator.broadcast(flags, root)->wait();
    EXPECT_TRUE(flags.all().item<bool>());

    // A weight, as it is broadcast before training: a leaf that requires a gradient.
    const at::Tensor weight = at::full({700'000}, 1.0 * rank, at::device(device)).requires_grad_();
    communicator.broadcast(weight, root)->wait();
    EXPECT_TRUE(weight.eq(root).all().item<bool>());
  }
  const at::Tensor input = at::full({2, 3}, rank, at::device(device).dtype(at::kLong));
  const at::Tensor output = at::empty({communicator.size(), 2, 3}, input.options());
  communicator.all_gather(input, output)->wait();
  for (int from = 0; from < communicator.size(); ++from) {
    EXPECT_TRUE(output[from].eq(from).all().item<bool>());
  }
  communicator.barrier();
}

void check_operations_in_flight_finish_in_order(Communicator& communicator, at::Device device) {
  std::vector<at::Tensor> tensors;
  std::vector<std::shared_ptr<Work>> works;
  for (int64_t i = 0; i < 40; ++i) {
    tensors.push_back(at::full({1 + i * 5'000}, i, at::device(device)));
    works.push_back(communicator.all_reduce(tensors.back()));
  }
  tensors.push_back(at::empty({0}, at::device(device)));
  works.push_back(communicator.all_reduce(tensors.back()));
  works[39]->wait();
  for (int64_t i = 0; i < 40; ++i) {
    EXPECT_TRUE(tensors[i].eq(i * communicator.size()).all().item<bool>());
  }
  works.back()->wait();
}

void check_preconditions(Communicator& communicator) {
  const int size = communicator.size();
  EXPECT_THROW(communicator.all_reduce(at::Tensor()), c10::Error);
  EXPECT_THROW(communicator.all_reduce(at::zeros({3, 4}).t()), c10::Error);
  EXPECT_THROW(communicator.all_reduce(at::zeros({3}, at::kBool)), c10::Error);
  EXPECT_THROW(communicator.broadcast(at::zeros({3}), size), c10::Error);
  EXPECT_THROW(communicator.all_gather(at::zeros({3}), at::zeros({size + 1, 3})), c10::Error);
}

}  // namespace espalier
