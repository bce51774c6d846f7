#include "trainer/config/deadline_settings.h"

#include "trainer/errors.h"

namespace espalier {
namespace {

constexpr double kWeek_s = 7 * 24 * 3600;

void declare_watching(Settings& s, DeadlineConfig& c) {
  s.add("deadline.suspect_after", c.suspect_after,
        {.help = "A rank that was not heard of for so long is shown as suspect; ranks beat once a "
                 "second.",
         .unit = "seconds",
         .min = 2,
         .max = kWeek_s});
  s.add("deadline.dead_after", c.dead_after,
        {.help = "A rank that was not heard of for so long is named, and the job is ended.",
         .unit = "seconds",
         .min = 3,
         .max = kWeek_s});
  s.add("deadline.hung_up", c.hung_up,
        {.help = "A rank on another host whose connection closed comes back within so long, or is "
                 "taken for dead.",
         .unit = "seconds",
         .min = 0.5,
         .max = 3600});
  s.add("deadline.setup", c.setup,
        {.help = "The longest time without progress while a process starts, builds a stage or "
                 "winds down, and from the launch until every rank has joined.",
         .unit = "seconds",
         .min = 1,
         .max = kWeek_s});
  s.add("deadline.step_floor", c.step_floor,
        {.help = "The longest time without progress in a step, however fast steps are.",
         .unit = "seconds",
         .min = 1,
         .max = kWeek_s});
  s.add("deadline.step_factor", c.step_factor,
        {.help = "A step may also take so many times the slowest of the latest 100 steps.",
         .unit = "times",
         .min = 1,
         .max = 1000});
  s.add("deadline.checkpoint", c.checkpoint,
        {.help = "The longest time without progress while a checkpoint is written.",
         .unit = "seconds",
         .min = 1,
         .max = kWeek_s});
  s.add("deadline.evaluation", c.evaluation,
        {.help = "The longest time without progress in an evaluation.",
         .unit = "seconds",
         .min = 1,
         .max = kWeek_s});
}

void declare_ending(Settings& s, DeadlineConfig& c) {
  s.add("deadline.drain", c.drain,
        {.help = "From a stop to the end of the last rank; then the job is ended.",
         .unit = "seconds",
         .min = 1,
         .max = kWeek_s});
  s.add("deadline.kill_grace", c.kill_grace,
        {.help = "From asking the launcher to end the job to killing it.",
         .unit = "seconds",
         .min = 0,
         .max = 3600});
  s.add("deadline.lost_rank_grace", c.lost_rank_grace,
        {.help = "How long the launcher may take to end the job by itself after a rank failed.",
         .unit = "seconds",
         .min = 0,
         .max = 3600});
  s.add("deadline.coordinator_away", c.coordinator_away,
        {.help = "Ranks whose coordinator is away for so long write a checkpoint and stop.",
         .unit = "seconds",
         .min = 1,
         .max = kWeek_s});
}

void declare_hosts(Settings& s, DeadlineConfig& c) {
  s.add("deadline.host_answer", c.host_answer,
        {.help = "How long a host may take to run a command before it counts as away.",
         .unit = "seconds",
         .min = 1,
         .max = 600});
  s.add("deadline.host_retry", c.host_retry,
        {.help = "How often hosts that are away are looked for.",
         .unit = "seconds",
         .min = 1,
         .max = 86400});
  s.add("deadline.hosts", c.hosts,
        {.help = "How long a launch waits for enough hosts; then the run ends with 75.",
         .unit = "seconds",
         .min = 0,
         .max = kWeek_s});
}

void declare_starting_again(Settings& s, DeadlineConfig& c) {
  s.add("deadline.backoff_base", c.backoff_base,
        {.help = "The wait before a relaunch; it doubles with every launch that brought no new "
                 "checkpoint.",
         .unit = "seconds",
         .min = 0,
         .max = 3600});
  s.add("deadline.backoff_cap", c.backoff_cap,
        {.help = "The longest wait before a relaunch.", .unit = "seconds", .min = 0, .max = 86400});
  s.add("deadline.launches_without_commit", c.launches_without_commit,
        {.help = "So many launches in a row without a new checkpoint end the run.",
         .unit = "launches",
         .min = 1,
         .max = 1000});
}

void declare_transports(Settings& s, DeadlineConfig& c) {
  s.add("deadline.mpi", c.mpi,
        {.help = "An MPI operation without progress for so long is an error. Ranks wait for each "
                 "other in one, so it must outlast what a single rank does alone.",
         .unit = "seconds",
         .min = 1,
         .max = kWeek_s});
  s.add("deadline.nccl", c.nccl,
        {.help = "The same for an NCCL operation, and for what a GPU does before it.",
         .unit = "seconds",
         .min = 1,
         .max = kWeek_s});
  s.add("deadline.abort_grace", c.abort_grace,
        {.help = "NCCL may take so long to let go after a failure; then the process ends.",
         .unit = "seconds",
         .min = 0.1,
         .max = 3600});
}

void refuse_unless(bool holds, const std::string& origin, const std::string& what) {
  if (!holds) throw ConfigError(origin + ": " + what);
}

}  // namespace

void declare_deadline_settings(Settings& settings, DeadlineConfig& config) {
  declare_watching(settings, config);
  declare_ending(settings, config);
  declare_hosts(settings, config);
  declare_starting_again(settings, config);
  declare_transports(settings, config);
}

void validate_deadlines(const DeadlineConfig& config, const std::string& origin) {
  refuse_unless(config.suspect_after < config.dead_after, origin,
                "deadline.suspect_after must be shorter than deadline.dead_after");
  refuse_unless(config.backoff_base <= config.backoff_cap, origin,
                "deadline.backoff_base must not be longer than deadline.backoff_cap");
}

}  // namespace espalier
