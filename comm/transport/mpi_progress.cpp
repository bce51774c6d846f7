#include "comm/transport/mpi_progress.h"

#include <algorithm>
#include <csignal>
#include <functional>
#include <utility>

#include "comm/errors.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

// Enough to hide the hand-shakes of one piece behind the bytes of another.
constexpr size_t kPiecesInFlight = 4;

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommError(std::string(call) + ": " + text);
}

// MPI 3 has no bfloat16: it travels as 16-bit integers, which these combine in float.
template <class Combine>
void combine_bfloat16(void* in, void* in_out, int* count, MPI_Datatype*) {
  const auto* from = static_cast<const at::BFloat16*>(in);
  auto* to = static_cast<at::BFloat16*>(in_out);
  for (int i = 0; i < *count; ++i) {
    to[i] = Combine()(static_cast<float>(to[i]), static_cast<float>(from[i]));
  }
}
struct Sum {
  float operator()(float a, float b) const { return a + b; }
};
struct Max {
  float operator()(float a, float b) const { return std::max(a, b); }
};
struct Min {
  float operator()(float a, float b) const { return std::min(a, b); }
};

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

}  // namespace

MpiOperation::MpiOperation(std::string operation_name, at::Tensor operand,
                           std::shared_ptr<std::atomic<int>> waiters)
    : name(std::move(operation_name)), tensor(std::move(operand)), waiters_(std::move(waiters)) {}

void MpiOperation::wait() {
  waiters_->fetch_add(1);
  done_.wait(false, std::memory_order_acquire);
  waiters_->fetch_sub(1);
  if (error_) std::rethrow_exception(error_);
}

void MpiOperation::complete(const std::exception_ptr& error) {
  if (done_) return;
  error_ = error;
  done_.store(true, std::memory_order_release);
  done_.notify_all();
}

MpiProgress::MpiProgress(double timeout_s) : timeout_s_(timeout_s) {
  auto started = started_.get_future();
  thread_ = start_without_signals([this] { run(); });
  try {
    started.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

MpiProgress::~MpiProgress() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    // Peers may never come to what this rank has yet to finish.
    abandon_ = std::uncaught_exceptions() > exceptions_at_start_;
  }
  wake_.notify_one();
  thread_.join();
}

void MpiProgress::submit(std::shared_ptr<MpiOperation> operation) {
  {
    const std::lock_guard lock(mutex_);
    if (error_ || operation->pieces.empty()) return operation->complete(error_);
    queue_.push_back(std::move(operation));
  }
  wake_.notify_one();
}

void MpiProgress::run() {
  try {
    start_mpi();
  } catch (...) {
    started_.set_exception(std::current_exception());
    return;
  }
  started_.set_value();
  try {
    while (wait_for_work()) {
      while (advance()) pause();
    }
    end_mpi();
  } catch (...) {
    fail(std::current_exception());
  }
}

void MpiProgress::start_mpi() {
  int is_running = 0;
  int has_ended = 0;
  int level = 0;
  check(MPI_Initialized(&is_running), "MPI_Initialized");
  check(MPI_Finalized(&has_ended), "MPI_Finalized");
  if (has_ended) throw CommError("MPI has ended in this process, and cannot start again");
  if (is_running) {
    check(MPI_Query_thread(&level), "MPI_Query_thread");
  } else {
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level), "MPI_Init_thread");
    owns_mpi_ = true;
  }
  if (level < MPI_THREAD_SERIALIZED) {
    throw CommError(
        "MPI must offer MPI_THREAD_SERIALIZED: its progress thread is not the main one");
  }
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  MPI_User_function* const combine[] = {combine_bfloat16<Sum>, combine_bfloat16<Max>,
                                        combine_bfloat16<Min>};
  for (int i = 0; i < 3; ++i) {
    check(MPI_Op_create(combine[i], /*commute=*/1, &bfloat16_ops_[i]), "MPI_Op_create");
  }
}

// MPI_Finalize waits for all ranks, for ever; so they meet in a barrier with a deadline first.
void MpiProgress::end_mpi() {
  owners_.push_back(std::make_shared<MpiOperation>("end of MPI", at::Tensor(), waiters_));
  requests_.push_back(MPI_REQUEST_NULL);
  check(MPI_Ibarrier(comm_, &requests_.back()), "MPI_Ibarrier");
  last_progress_ = Clock::now();
  while (advance()) pause();
  for (MPI_Op& op : bfloat16_ops_) check(MPI_Op_free(&op), "MPI_Op_free");
  check(MPI_Comm_free(&comm_), "MPI_Comm_free");
  if (owns_mpi_) check(MPI_Finalize(), "MPI_Finalize");
}

// False when the communicator closes and nothing is left to do.
bool MpiProgress::wait_for_work() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return closing_ || !queue_.empty(); });
  last_progress_ = Clock::now();
  return !queue_.empty();
}

// One round over what is in flight. False when nothing is.
bool MpiProgress::advance() {
  if (abandon_) throw CommError("the communicator was destroyed by an exception");
  while (requests_.size() < kPiecesInFlight && start_piece()) continue;
  if (requests_.empty()) return false;
  test_pieces();
  const std::chrono::duration<double> idle = Clock::now() - last_progress_;
  if (idle.count() > timeout_s_) {
    throw Timeout(owners_.front()->name, timeout_s_,
                  "another rank is stopped, hung or took another path (seen by rank " +
                      std::to_string(rank_) + " of " + std::to_string(size_) + ")");
  }
  return true;
}

bool MpiProgress::start_piece() {
  if (!current_ || current_->started_ == current_->pieces.size()) {
    const std::lock_guard lock(mutex_);
    if (queue_.empty()) return false;
    current_ = std::move(queue_.front());
    queue_.pop_front();
  }
  const MpiPiece& piece = current_->pieces[current_->started_++];
  owners_.push_back(current_);
  requests_.push_back(MPI_REQUEST_NULL);
  if (piece.op) {
    check(MPI_Iallreduce(MPI_IN_PLACE, piece.data, piece.count, piece.type, mpi_op(piece), comm_,
                         &requests_.back()),
          "MPI_Iallreduce");
  } else {
    check(MPI_Ibcast(piece.data, piece.count, piece.type, piece.root, comm_, &requests_.back()),
          "MPI_Ibcast");
  }
  return true;
}

MPI_Op MpiProgress::mpi_op(const MpiPiece& piece) const {
  const ReduceOp op = *piece.op;
  if (piece.type == MPI_UINT16_T) return bfloat16_ops_[static_cast<int>(op)];
  return op == ReduceOp::kSum ? MPI_SUM : op == ReduceOp::kMax ? MPI_MAX : MPI_MIN;
}

void MpiProgress::test_pieces() {
  int completed = 0;
  indices_.resize(requests_.size());
  check(MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &completed,
                     indices_.data(), MPI_STATUSES_IGNORE),
        "MPI_Testsome");
  if (completed == 0) return;
  last_progress_ = Clock::now();
  size_t kept = 0;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL) {
      requests_[kept] = requests_[i];
      owners_[kept++] = owners_[i];
    } else if (++owners_[i]->finished_ == owners_[i]->pieces.size()) {
      owners_[i]->complete(nullptr);
    }
  }
  requests_.resize(kept);
  owners_.resize(kept);
}

// A waiting caller leaves its core to this thread, which polls, but lets others in. When nobody
// waits, the core belongs to backward.
void MpiProgress::pause() const {
  const auto idle = Clock::now() - last_progress_;
  const bool is_awaited = *waiters_ > 0 && idle < std::chrono::milliseconds(2);
  if (is_awaited || idle < std::chrono::microseconds(20)) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

void MpiProgress::fail(const std::exception_ptr& error) {
  const std::lock_guard lock(mutex_);
  error_ = error;
  for (const auto& owner : owners_) owner->complete(error);
  if (current_) current_->complete(error);
  for (const auto& operation : queue_) operation->complete(error);
  queue_.clear();
  // MPI may still write to tensors in flight: they outlive everything.
  if (!owners_.empty()) new std::vector(std::move(owners_));
}

}  // namespace espalier
