#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"
#include "models/weights/safetensors.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/checkpoint/host_snapshot.h"
#include "trainer/checkpoint/shared_directory.h"
#include "trainer/run_observer.h"

namespace espalier {

struct CheckpointerOptions {
  std::string root;  // the run's checkpoints/ folder; exists
  int64_t keep = 2;
  int generation = 1;
  bool is_shared = true;  // false: only rank 0 sees `root`, and writes everything
  // Asked on rank 0 before each commit: false = a newer generation has taken the folder. Any
  // thread.
  std::function<bool()> is_ours = [] { return true; };
  double time_to_show_s = kTimeToShow_s;  // of a file that another rank has written
};

// Saves checkpoints while training goes on. One per rank; used by the training thread only.
//
// A save: every rank copies its share of the tensors at a step boundary (start), a thread of each
// rank writes that copy, and when all have finished, rank 0's thread writes the manifest and
// renames the directory: the commit. The ranks learn of each other's progress by one number that
// the step loop adds to the all-reduce it does anyway (pending, advance), so they take every turn
// together.
//
// On disks that are not shared rank 0 writes all of it: what a checkpoint holds is the same on
// every rank (see Note [State is replicated]).
//
// A save that fails is reported, leaves older checkpoints alone, and the run goes on; state that is
// not finite throws DoNotRequeueError.
class Checkpointer {
 public:
  using EventSink = std::function<void(const nlohmann::json&)>;

  Checkpointer(Communicator& comm, RunObserver& observer, CheckpointerOptions options,
               EventSink events);
  ~Checkpointer();  // waits for the thread; does not commit
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // Every rank passes the same tensors and step. Costs a copy of 1/world of them to host memory; a
  // GPU's are copied in its queue, and the thread that writes waits for them.
  // A save still in flight is finished first.
  // `is_best`: checkpoints/best names it once it is committed, and no newer one pushes it out.
  void start(const TensorMap& tensors, const nlohmann::json& state, int64_t step,
             bool is_best = false);

  // 1 while this rank's thread works, else 0.
  double pending() const;

  // With the sum of pending() over the ranks, the same on each.
  void advance(double pending_of_all);

  bool in_flight() const { return phase_ != Phase::kIdle; }

  // Collective. Blocks until nothing is in flight. Returns why the save failed, "" = it did not.
  std::string settle();

  // The same, throwing StorageError when the last save failed.
  void finish();

  // The newest step that was committed or loaded, -1 = none. A failed save does not count.
  int64_t last_step() const { return last_step_; }
  void set_last_step(int64_t step) { last_step_ = step; }

 private:
  enum class Phase { kIdle, kWriting, kCommitting };

  nlohmann::json write_share(const TensorMap& share, const std::string& state_text) const;
  nlohmann::json commit(const nlohmann::json& results);
  std::map<std::string, FileDigest> collect_files(const nlohmann::json& results) const;
  void report_failure(const std::string& why);
  void begin_commit();
  std::string conclude();

  Communicator& comm_;
  RunObserver& observer_;
  CheckpointerOptions options_;
  EventSink events_;
  Phase phase_ = Phase::kIdle;
  int64_t step_ = -1;
  int64_t last_step_ = -1;
  int64_t saves_ = 0;
  bool is_best_ = false;  // the save in flight
  std::string last_error_;
  std::string temporary_;               // directory of the save in flight
  HostSnapshot snapshot_;               // what it writes
  std::future<nlohmann::json> thread_;  // result of the writing or committing thread
  std::set<std::string> verified_;      // rank 0: checkpoints known to be good
};

// Note [State is replicated]: every tensor of a checkpoint has the same bits on all ranks. Weights,
// optimizer and averages start from the seed or a checkpoint and change by gradients and statistics
// that were summed over ranks; what objectives derive from their data (means of a teacher's
// features) every rank computes alike from the same samples. So it does not matter who writes what.

// Which rank writes which tensor: largest first, each to the rank with the least so far. The same
// on every rank.
std::map<std::string, int> assign_writers(const TensorMap& tensors, int ranks);

}  // namespace espalier
