#include "comm/transport/mpi_progress.h"

#include <csignal>
#include <functional>
#include <utility>

#include "comm/errors.h"

namespace espalier {
namespace {

// Signals are for the main thread, which has handlers for them; faults stay with their thread. MPI
// starts threads too, which inherit this.
std::thread start_without_signals(const std::function<void()>& body) {
  sigset_t blocked;
  sigset_t before;
  sigfillset(&blocked);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&blocked, fault);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  std::thread thread(body);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

std::string blame(const Topology& topology, const Relay& relay) {
  if (relay.is_done()) return "the network does not take what this rank sends";
  const Relay::Obstacle obstacle = relay.obstacle();
  const Ring& ring = topology.ring(obstacle.ring);
  const std::string who = obstacle.is_previous
                              ? "nothing comes from rank " + std::to_string(ring.previous())
                              : "nothing is taken by rank " + std::to_string(ring.next());
  return who +
         ", so that rank or one that it waits for is stopped, hung or took another path "
         "(seen by rank " +
         std::to_string(topology.rank()) + " of " + std::to_string(topology.size()) + ")";
}

}  // namespace

MpiOperation::MpiOperation(CollectiveRecord record, MpiJob job,
                           std::shared_ptr<std::atomic<int>> waiters)
    : record_(std::move(record)), job_(std::move(job)), waiters_(std::move(waiters)) {}

void MpiOperation::finish(bool blocks) {
  waiters_->fetch_add(1);
  done_.wait(false, std::memory_order_acquire);
  waiters_->fetch_sub(1);
  if (error_) std::rethrow_exception(error_);
  if (job_.stage) job_.stages->bring_back(*job_.stage, blocks);
}

void MpiOperation::complete(const std::exception_ptr& error) {
  if (done_) return;
  error_ = error;
  if (!error) record_.end();
  done_.store(true, std::memory_order_release);
  done_.notify_all();
}

MpiProgress::MpiProgress(double timeout_s, const MpiOptions& options) : timeout_s_(timeout_s) {
  auto started = started_.get_future();
  thread_ = start_without_signals([this, options] { run(options); });
  try {
    started.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

MpiProgress::~MpiProgress() {
  // Peers may never come to what this rank has yet to finish.
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    abort("the communicator was destroyed by an exception");
  }
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void MpiProgress::submit(std::shared_ptr<MpiOperation> operation) {
  {
    const std::lock_guard lock(mutex_);
    if (error_) return operation->complete(error_);
    queue_.push_back(std::move(operation));
  }
  wake_.notify_one();
}

void MpiProgress::abort(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (!is_aborted_) abort_reason_ = why;
    is_aborted_ = true;
  }
  wake_.notify_one();
}

void MpiProgress::run(const MpiOptions& options) {
  try {
    world_ = std::make_unique<MpiWorld>(options);
    const auto cores = static_cast<int>(std::thread::hardware_concurrency());
    has_core_ = world_->topology().ranks_on_node() <= cores;
  } catch (...) {
    started_.set_exception(std::current_exception());
    return;
  }
  started_.set_value();
  try {
    while ((current_ = next_operation())) {
      carry_out(*current_);
      current_->complete(nullptr);
    }
    end_mpi();
  } catch (...) {
    fail(std::current_exception());
  }
}

// Null when the communicator closes and nothing is left to do.
std::shared_ptr<MpiOperation> MpiProgress::next_operation() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return closing_ || is_aborted_ || !queue_.empty(); });
  if (is_aborted_) throw CommError(abort_reason_);
  if (queue_.empty()) return nullptr;
  auto operation = std::move(queue_.front());
  queue_.pop_front();
  return operation;
}

void MpiProgress::carry_out(MpiOperation& operation) {
  const MpiJob& job = operation.job_;
  last_progress_ = Clock::now();
  while (job.stage && !job.stage->is_filled()) {
    check_abort();
    if (idle_s() > timeout_s_) {
      throw operation.record_.timeout(
          timeout_s_, "the stream that makes its input has not come so far: a kernel hangs");
    }
    pause();
  }
  operation.record_.start();
  last_progress_ = Clock::now();
  Relay relay(job.schedule, job.layout, job.combine, world_->links());
  // What was sent must have left before this thread may sleep: nobody else makes MPI's calls.
  while (!world_->drain() || !relay.is_done()) {
    check_abort();
    if (!relay.is_done() && relay.advance()) {
      last_progress_ = Clock::now();
      continue;
    }
    if (idle_s() > timeout_s_) {
      throw operation.record_.timeout(timeout_s_, blame(world_->topology(), relay));
    }
    pause();
  }
}

// MPI_Finalize waits for all ranks, for ever; so they meet in a barrier with a deadline first.
void MpiProgress::end_mpi() {
  MPI_Request request = world_->start_leaving();
  last_progress_ = Clock::now();
  for (int has_come = 0;;) {
    check_mpi(MPI_Test(&request, &has_come, MPI_STATUS_IGNORE), "MPI_Test");
    if (has_come != 0) break;
    check_abort();
    if (idle_s() > timeout_s_) throw CommError("not every rank came to the end of MPI");
    pause();
  }
  world_->leave();
}

void MpiProgress::check_abort() {
  if (!is_aborted_) return;
  const std::lock_guard lock(mutex_);
  throw CommError(abort_reason_);
}

double MpiProgress::idle_s() const {
  return std::chrono::duration<double>(Clock::now() - last_progress_).count();
}

// A waiting caller leaves its core to this thread. Where each rank has one, a neighbour's cell is
// there within a few microseconds, and giving the core to another program would cost its whole time
// slice, milliseconds; later, or with fewer cores, others are let in. When nobody waits, the core
// belongs to backward.
void MpiProgress::pause() const {
  const double idle = idle_s();
  const bool is_awaited = *waiters_ > 0;
  if (has_core_ && is_awaited && idle < 20e-6) return;
  if (idle < 20e-6 || (is_awaited && idle < 2e-3)) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

void MpiProgress::fail(const std::exception_ptr& error) {
  const std::lock_guard lock(mutex_);
  error_ = error;
  // Neighbours and MPI may still write into its memory, which outlives everything.
  static_cast<void>(world_.release());
  if (current_) current_->complete(error);
  for (const auto& operation : queue_) operation->complete(error);
  queue_.clear();
}

}  // namespace espalier
