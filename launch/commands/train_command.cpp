#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include <spdlog/spdlog.h>

#include "comm/collective_watch.h"
#include "launch/commands/commands.h"
#include "launch/commands/run_options.h"
#include "launch/commit.h"
#include "launch/coordinator/coordinator_files.h"
#include "launch/protocol/failure.h"
#include "launch/report/report_page.h"
#include "launch/worker/launcher_detection.h"
#include "launch/worker/logging.h"
#include "launch/worker/rank_communicators.h"
#include "launch/worker/worker_observer.h"
#include "trainer/dry_run.h"
#include "trainer/errors.h"
#include "trainer/host/host_memory.h"
#include "trainer/memory_need.h"
#include "trainer/run.h"

namespace espalier {
namespace {

// Beside the rank's log where it has one.
std::string dump_directory_of(const RunConfig& config) {
  const char* const logs = std::getenv("ESPALIER_LOG_DIRECTORY");
  return logs != nullptr ? logs : config.directory + "/errors";
}

int train(const TrainArguments& arguments, const RankPlace& place, WorkerObserver& observer,
          const std::shared_ptr<CollectiveWatch>& watch) {
  const RunConfig config = load_run_config(arguments.config, arguments.all_sets());
  require_memory(config);
  if (observer.channel() != nullptr) {
    observer.channel()->set_grace(config.deadline.coordinator_away);
  }
  RankCommunicators ranks(config, place, dump_directory_of(config), watch);
  RunOptions options = options_of(arguments);
  options.generation = static_cast<int>(place.generation);
  options.local_rank = place.local_rank;
  options.local_size = place.local_size;
  options.control = ranks.control();
  const RunOutcome outcome = run_training(config, ranks.get(), observer, options);
  if (observer.channel() != nullptr) {
    observer.channel()->finish(outcome == RunOutcome::kFinished ? kExitDone : kExitStopped);
  } else if (place.rank == 0) {
    const std::string report = write_report(config.directory);
    spdlog::info("report: {}", report);
  }
  if (outcome == RunOutcome::kFinished) return kExitDone;
  if (place.rank == 0) {
    spdlog::info("stopped with a checkpoint; the same command goes on from it");
  }
  return kExitStopped;
}

// A rank says why it ends in a file, to its coordinator, and to whoever reads its log.
int report_failure(const RankPlace& place, ControlChannel* channel, bool same_on_all_ranks) {
  const FailureReport failure = describe_failure(std::current_exception());
  if (!place.coordinator.empty()) {
    const auto run = std::filesystem::path(place.coordinator).parent_path().string();
    try {
      write_rank_error(run, place.generation, {place.rank, failure.failure_class, failure.message});
    } catch (const std::exception& error) {
      spdlog::warn("no error file: {}", error.what());
    }
  }
  if (channel != nullptr) {
    channel->report_error(failure.failure_class, failure.message);
    channel->finish(failure.exit_code());
  }
  if (same_on_all_ranks && place.rank != 0) {
    // Rank 0 says it for all; the launcher ends every rank as soon as one has left.
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    return failure.exit_code();
  }
  spdlog::error("{}{}{}", failure.message, failure.remedy.empty() ? "" : "; ", failure.remedy);
  return failure.exit_code();
}

// The training thread gets a moment to end in good order; it may also wait for ever in an exchange
// with ranks that are no more.
void end_soon(const std::string& why) {
  constexpr auto kMoment = std::chrono::seconds(2);
  std::thread([why, kMoment] {
    std::this_thread::sleep_for(kMoment);
    spdlog::error("ending: {}", why);
    spdlog::default_logger()->flush();
    ::_exit(kExitStopped);
  }).detach();
}

}  // namespace

RunOptions options_of(const TrainArguments& arguments) {
  RunOptions options;
  options.extends = arguments.extends;
  options.fork_from = arguments.fork_from;
  options.commit = commit_of_program();
  return options;
}

std::vector<std::string> TrainArguments::all_sets() const {
  std::vector<std::string> out = sets;
  if (!resume.empty()) out.push_back("checkpoint.resume=\"" + resume + "\"");
  return out;
}

int run_train(const TrainArguments& arguments) {
  const RankPlace place = detect_launcher([](const char* name) { return std::getenv(name); });
  if (arguments.dry_run) {
    if (place.rank != 0) return kExitDone;
    const RunConfig config = load_run_config(arguments.config, arguments.all_sets());
    std::fputs(dry_run(config, place.world_size, options_of(arguments)).c_str(), stdout);
    return kExitDone;
  }
  // A launcher that dies must not leave ranks behind that hold the run directory.
  if (place.launcher != Launcher::kNone) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  keep_heap_in_huge_pages(place.local_size);
  const char* log_directory = std::getenv("ESPALIER_LOG_DIRECTORY");
  if (log_directory != nullptr) redirect_output(log_directory, place.rank);

  std::unique_ptr<Progress> progress;
  if (place.rank == 0) progress = std::make_unique<Progress>(stdout);
  log_for_worker(place, progress.get());
  const auto watch = std::make_shared<CollectiveWatch>();
  std::unique_ptr<ControlChannel> channel;
  if (!place.coordinator.empty()) {
    ControlChannel::Options options;
    options.address_file = place.coordinator;
    options.generation = place.generation;
    options.rank = place.rank;
    options.on_over = end_soon;
    options.exchange = [watch] {
      const CollectiveWatch::Latest latest = watch->latest();
      return BeatMessage::Exchange{latest.issued, latest.completed, latest.operation,
                                   latest.waited_s};
    };
    channel = std::make_unique<ControlChannel>(options);
  }
  WorkerObserver observer(std::move(channel), std::move(progress));
  int exit_code = kExitInternal;
  try {
    exit_code = train(arguments, place, observer, watch);
  } catch (const ConfigError&) {
    exit_code = report_failure(place, observer.channel(), /*same_on_all_ranks=*/true);
  } catch (...) {
    exit_code = report_failure(place, observer.channel(), /*same_on_all_ranks=*/false);
  }
  log_plainly();
  return exit_code;
}

}  // namespace espalier
