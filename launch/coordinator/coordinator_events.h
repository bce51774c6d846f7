#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "launch/coordinator/host_slots.h"
#include "launch/protocol/failure_class.h"
#include "launch/protocol/messages.h"
#include "trainer/phase.h"

namespace espalier {

enum class CoordinatorState {
  kIdle,           // nothing was started
  kAllocating,     // ending what is left of an older generation, or looking for hosts
  kLaunching,      // the launcher is being started
  kRendezvous,     // ranks are coming up
  kRunning,        // every rank has joined
  kCheckpointing,  // running, and some rank has prepared a checkpoint that is not committed yet
  kDraining,       // a stop was sent, or the job is being ended; waiting for the launcher to exit
  kBackoff,        // waiting before the next launch
  kSucceeded,
  kPreempted,  // stopped with a checkpoint
  kFailed,
};
std::string_view name_of(CoordinatorState state);

// Seconds on a steady clock, injected: the machine never asks for the time.
using Seconds = double;

// ---- events -------------------------------------------------------------------------------------
// What the journal and the process table say at start.
struct CoordinatorStart {
  uint32_t last_generation = 0;
  int64_t last_commit = -1;
  bool leftover_alive = false;  // a launcher of `last_generation` is still running
  bool adopt_leftover = false;  // and it runs this very job
  int leftover_ranks = 0;       // of so many; 0: not known
};
struct LeftoverGone {};
// The answer to FindHosts.
struct HostsFound {
  std::vector<HostState> hosts;
};
struct LauncherStarted {
  uint32_t generation;
  int pid;
};
struct LauncherFailed {
  std::string what;
};
// exit_status as a shell would show it (128 + signal); -1: not our child, so not known.
struct LauncherExited {
  int exit_status;
};
struct RankJoined {
  uint32_t generation;
  int rank;
  int pid;
  std::string host = {};
  bool is_local = true;  // its pid can be looked up here
};
struct RankBeat {
  uint32_t generation;
  int rank;
  int64_t step;
  Phase phase;
  int64_t work_done = 0;  // within the phase
  std::optional<BeatMessage::Exchange> exchange = std::nullopt;
};
struct RankHungUp {
  uint32_t generation;
  int rank;
  bool process_gone;  // known of a local rank only
};
struct RankError {
  uint32_t generation;
  int rank;
  FailureClass failure_class;
  std::string what;
};
struct RankPrepared {
  uint32_t generation;
  int rank;
  int64_t step;
};
struct RankCommitted {
  uint32_t generation;
  int rank;
  int64_t step;
};
struct RankSaveFailed {
  uint32_t generation;
  int rank;
  int64_t step;
  std::string why;
};
struct RankBye {
  uint32_t generation;
  int rank;
  int exit_code;
};
enum class StopSource : uint8_t {
  kPerson,     // wants the run stopped, for good or until it is started by hand
  kScheduler,  // wants the processes gone; the run is to go on later
  kWarning,    // the scheduler's, that it is about to: said a second time, it changes nothing
};
struct StopRequested {
  std::string why;
  StopSource source = StopSource::kScheduler;
};
// The scheduler ends the job that the coordinator itself runs in.
struct JobEnds {
  Seconds at;
  Seconds stop_before = 60;  // at least so long before
};
struct ClockTick {};

using CoordinatorEvent =
    std::variant<CoordinatorStart, LeftoverGone, HostsFound, LauncherStarted, LauncherFailed,
                 LauncherExited, RankJoined, RankBeat, RankHungUp, RankError, RankPrepared,
                 RankCommitted, RankSaveFailed, RankBye, StopRequested, JobEnds, ClockTick>;

// ---- actions ------------------------------------------------------------------------------------
struct EndLeftover {};
struct FindHosts {};
struct LaunchJob {
  uint32_t generation;
  int ranks = 0;
  std::vector<HostSlots> hosts = {};  // empty: wherever the launcher puts them
};
struct EndJob {
  bool at_once;  // SIGKILL instead of asking
  std::string why;
};
struct SendStop {
  int rank;  // -1: all
  std::string why;
};
struct AllowCommit {
  int64_t step;  // to every rank
};
struct RecordCommit {
  uint32_t generation;
  int64_t step;
};
struct NoteEvent {  // for the event log and the terminal
  std::string event;
  std::string text;
  int rank = -1;
};
struct FinishRun {
  int exit_code;
  std::string why;
  bool wants_requeue = false;  // stopped, and by no person
};
using CoordinatorAction = std::variant<EndLeftover, FindHosts, LaunchJob, EndJob, SendStop,
                                       AllowCommit, RecordCommit, NoteEvent, FinishRun>;

}  // namespace espalier
