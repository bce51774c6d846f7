#include "launch/coordinator/coordinator.h"

namespace espalier {

// Which function answers which event in which state. What is not listed is ignored: a message that
// comes late is no fault.
struct CoordinatorTable {
  using State = CoordinatorState;
  using Handler = void (*)(Coordinator&, const CoordinatorEvent&);
  struct Row {
    unsigned states;
    size_t event;
    Handler handler;
  };

  static constexpr unsigned in(State state) { return 1u << static_cast<unsigned>(state); }
  template <class E>
  static constexpr size_t kind() {
    return CoordinatorEvent(std::in_place_type<E>).index();
  }
  template <class E, void (Coordinator::*Function)(const E&)>
  static Row row(unsigned states) {
    return {states, kind<E>(), [](Coordinator& machine, const CoordinatorEvent& e) {
              (machine.*Function)(std::get<E>(e));
            }};
  }
  template <class E, void (Coordinator::*Function)()>
  static Row row(unsigned states) {
    return {states, kind<E>(),
            [](Coordinator& machine, const CoordinatorEvent&) { (machine.*Function)(); }};
  }

  static const std::vector<Row>& rows() {
    using C = Coordinator;
    constexpr unsigned kComing = in(State::kLaunching) | in(State::kRendezvous);
    constexpr unsigned kUp = in(State::kRunning) | in(State::kCheckpointing);
    constexpr unsigned kDraining = in(State::kDraining);
    constexpr unsigned kAlive = kComing | kUp | kDraining;
    constexpr unsigned kWaiting = in(State::kIdle) | in(State::kAllocating) | in(State::kBackoff);
    static const std::vector<Row> table = {
        row<CoordinatorStart, &C::on_start>(in(State::kIdle)),
        row<LeftoverGone, &C::on_leftover_gone>(in(State::kAllocating)),
        row<HostsFound, &C::on_hosts_found>(in(State::kAllocating)),
        row<HostsFound, &C::on_hosts_found_running>(kUp),
        row<LauncherStarted, &C::on_launcher_started>(in(State::kLaunching)),
        row<LauncherFailed, &C::on_launcher_failed>(in(State::kLaunching)),
        row<LauncherExited, &C::on_launcher_exited>(kAlive),
        row<RankJoined, &C::on_joined>(kAlive),
        row<RankBeat, &C::on_beat>(kAlive),
        row<RankHungUp, &C::on_hung_up>(kAlive),
        row<RankError, &C::on_error>(kAlive),
        row<RankPrepared, &C::on_prepared>(kAlive),
        row<RankCommitted, &C::on_committed>(kAlive),
        row<RankSaveFailed, &C::on_save_failed>(kAlive),
        row<RankBye, &C::on_bye>(kAlive),
        row<StopRequested, &C::on_stop_idle>(kWaiting),
        row<StopRequested, &C::on_stop_running>(kComing | kUp),
        row<StopRequested, &C::on_stop_again>(kDraining),
        row<ClockTick, &C::on_tick_allocating>(in(State::kAllocating)),
        row<JobEnds, &C::on_job_ends>(kAlive | kWaiting),
        row<ClockTick, &C::on_tick_backoff>(in(State::kBackoff)),
        row<ClockTick, &C::on_tick_running>(kComing | kUp),
        row<ClockTick, &C::on_tick_draining>(kDraining),
    };
    return table;
  }
};

std::string_view name_of(CoordinatorState state) {
  constexpr std::string_view kNames[] = {"IDLE",      "ALLOCATING",    "LAUNCHING", "RENDEZVOUS",
                                         "RUNNING",   "CHECKPOINTING", "DRAINING",  "BACKOFF",
                                         "SUCCEEDED", "PREEMPTED",     "FAILED"};
  return kNames[static_cast<size_t>(state)];
}

std::vector<CoordinatorAction> Coordinator::handle(const CoordinatorEvent& event, Seconds now) {
  now_ = now;
  actions_.clear();
  for (const auto& row : CoordinatorTable::rows()) {
    if ((row.states & CoordinatorTable::in(state_)) != 0 && row.event == event.index()) {
      row.handler(*this, event);
      break;
    }
  }
  return std::move(actions_);
}

}  // namespace espalier
