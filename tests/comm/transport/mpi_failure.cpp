// A job that goes wrong, for mpi_failure_test: `mpirun -n 2 comm_mpi_failure
// killed|stopped|throws|aborts DIRECTORY`. Rank 1 fails at the eleventh of many all-reduces; rank 0
// says what it sees, and leaves its flight recorder in the directory.
#include <ATen/ATen.h>

#include <chrono>
#include <csignal>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>

#include "comm/errors.h"
#include "comm/transport/mpi_communicator.h"

namespace {

using espalier::Communicator;
using espalier::Timeout;

void fail(const std::string& how) {
  if (how == "killed") std::raise(SIGKILL);
  if (how == "stopped") std::raise(SIGSTOP);
  if (how == "aborts") std::this_thread::sleep_for(std::chrono::seconds(60));
  if (how == "throws") throw std::runtime_error("something else went wrong");
}

void train(Communicator& communicator, const std::string& how) {
  std::jthread messenger;
  for (int step = 0; step < 1'000'000; ++step) {
    if (step == 10 && communicator.rank() == 1) fail(how);
    if (step == 10 && how == "aborts") {
      messenger = std::jthread([&] { communicator.abort("rank 1 was reported dead"); });
    }
    communicator.all_reduce(at::ones({1000}))->wait();
  }
}

// What a caller may rely on after the first failure.
void check_that_it_stays_dead(Communicator& communicator) {
  try {
    communicator.all_reduce(at::ones({2000}))->wait();
  } catch (const Timeout&) {
    std::cout << "and stays dead" << std::endl;
  }
}

}  // namespace

int main(int, char** argv) {
  const std::string how = argv[1];
  try {
    const auto communicator =
        espalier::make_mpi_communicator({.timeout_s = 2, .dump_directory = argv[2]});
    try {
      train(*communicator, how);
    } catch (const Timeout& error) {
      std::cout << "rank " << communicator->rank() << ": " << error.what() << std::endl;
      check_that_it_stays_dead(*communicator);
      return 70;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cout << error.what() << std::endl;
    return 70;
  }
}
