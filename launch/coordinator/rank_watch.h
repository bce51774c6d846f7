#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "launch/coordinator/coordinator_events.h"
#include "trainer/config/deadline_settings.h"
#include "trainer/phase.h"

namespace espalier {

// What the coordinator knows of one rank of the present generation.
struct RankView {
  int pid = 0;
  std::string host;
  bool is_local = true;  // on the coordinator's machine: its pid means something here
  bool joined = false;
  bool suspect = false;
  int64_t step = -1;
  Phase phase = Phase::kSetup;
  int64_t work_done = 0;
  Seconds last_beat = 0;
  Seconds last_progress = 0;
  Seconds last_step_change = 0;
  std::optional<Seconds> hung_up_at;  // its connection closed, and it has not come back
  std::optional<int> bye;             // its exit code
  std::optional<BeatMessage::Exchange> exchange;
};

std::string rank_text(int rank, const RankView& view);  // "rank 1 (pid 4711 on host b)"

// Watches over the beats of all ranks: who is silent, who beats without making progress. Pure, like
// the coordinator it is a part of: the time is handed in.
class RankWatch {
 public:
  struct Trouble {
    int rank = -1;  // -1: no single one
    std::string what;
  };
  struct Findings {
    std::vector<Trouble> newly_suspect;
    std::optional<Trouble> lost;  // hung up on another host, and did not come back
    std::optional<Trouble> hang;
  };

  explicit RankWatch(const DeadlineConfig& deadlines);

  // Forgets everything: new processes, of a new generation or an adopted one.
  void start(int world_size, Seconds now);

  // Null for a rank that does not exist.
  RankView* find(int rank);
  const std::vector<RankView>& ranks() const { return ranks_; }
  bool all_joined() const;
  bool any_trained() const;  // some rank has reached a step

  void join(const RankJoined& event, Seconds now);
  void hang_up(int rank, Seconds now);
  void beat(const RankBeat& event, Seconds now);

  // Call it several times a second. `launched_at`: since when the missing ranks are awaited.
  Findings check(Seconds now, Seconds launched_at);

  // Whose connection closed first, without a goodbye: it most likely pulled the others with it.
  std::optional<Trouble> first_to_hang_up() const;

  // The longest time without progress in a phase, as things stand.
  Seconds deadline(Phase phase) const;
  Seconds step_deadline() const;

 private:
  void forgive_own_absence(Seconds now);
  std::optional<Trouble> find_lost(Seconds now) const;
  std::optional<Trouble> find_silent(Seconds now) const;
  std::vector<Trouble> find_newly_suspect(Seconds now);
  std::optional<Trouble> find_stalled(Seconds now) const;
  std::optional<Trouble> find_missing(Seconds waited) const;

  DeadlineConfig deadlines_;
  std::vector<RankView> ranks_;
  std::deque<Seconds> step_times_;
  Seconds last_check_ = 0;
};

}  // namespace espalier
