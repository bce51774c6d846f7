// Times all-reduce of float tensors, under mpirun: Communicator::all_reduce() over MPI, and beside
// it, in turn, one MPI_Allreduce in place of the whole tensor. tests/bench/all_reduce drives it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <mpi.h>

#include "comm/transport/mpi_communicator.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void plain_all_reduce(const at::Tensor& tensor) {
  MPI_Allreduce(MPI_IN_PLACE, tensor.data_ptr(), static_cast<int>(tensor.numel()), MPI_FLOAT,
                MPI_SUM, MPI_COMM_WORLD);
}

// What the slowest rank took. Ends the process when the sum is wrong.
double time_of(Communicator& comm, const at::Tensor& tensor, const std::function<void()>& reduce) {
  tensor.fill_(1 + comm.rank());
  comm.barrier();
  const auto start = Clock::now();
  reduce();
  const at::Tensor took = at::full({1}, seconds_since(start), at::kDouble);
  const int size = comm.size();
  if (!tensor.eq(size * (size + 1) / 2).all().item<bool>()) {
    std::fprintf(stderr, "rank %d: a wrong sum\n", comm.rank());
    std::exit(1);
  }
  comm.all_reduce(took, ReduceOp::kMax)->wait();
  return took.item<double>();
}

// Three calls an operation, as a backend makes them.
double record_ns() {
  CollectiveWatch watch;
  const at::Tensor tensor = at::empty({1000, 100});
  constexpr int kOperations = 1'000'000;
  const auto start = Clock::now();
  for (int i = 0; i < kOperations; ++i) {
    const uint64_t number = watch.on_issue("world", {"all_reduce", tensor, "sum"});
    watch.on_start(number);
    watch.on_end(number);
  }
  return seconds_since(start) / kOperations * 1e9;
}

int repetitions(int64_t bytes) {
  return static_cast<int>(std::clamp<int64_t>((int64_t{128} << 20) / bytes, 3, 31));
}

void run(const std::vector<int64_t>& sizes) {
  at::set_num_threads(1);
  const auto comm = make_mpi_communicator({.timeout_s = 60});
  std::string rows;
  for (const int64_t bytes : sizes) {
    const at::Tensor tensor = at::empty({bytes / 4});
    std::vector<double> ours, plain;
    for (int i = -1; i < repetitions(bytes); ++i) {
      const double a = time_of(*comm, tensor, [&] { comm->all_reduce(tensor)->wait(); });
      const double b = time_of(*comm, tensor, [&] { plain_all_reduce(tensor); });
      if (i < 0) continue;  // the first touches fresh pages
      ours.push_back(a);
      plain.push_back(b);
    }
    rows += (rows.empty() ? "" : ", ") + std::string("{\"bytes\": ") + std::to_string(bytes) +
            ", \"ours_us\": " + std::to_string(median(ours) * 1e6) +
            ", \"plain_us\": " + std::to_string(median(plain) * 1e6) + "}";
  }
  if (comm->rank() != 0) return;
  std::printf("{\"record_ns\": %.1f, \"sizes\": [%s]}\n", record_ns(), rows.c_str());
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  std::vector<int64_t> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::atoll(argv[i]));
  try {
    espalier::run(sizes);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 70;
  }
  return 0;
}
