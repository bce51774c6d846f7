#include "launch/coordinator/coordinator_service.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <utility>

#include <spdlog/spdlog.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <nlohmann/json.hpp>

#include "launch/coordinator/control_server.h"
#include "launch/coordinator/coordinator.h"
#include "launch/coordinator/coordinator_files.h"
#include "launch/coordinator/job_launcher.h"
#include "launch/coordinator/journal.h"
#include "launch/protocol/handshake.h"
#include "launch/status/status_server.h"
#include "launch/worker/progress.h"
#include "trainer/errors.h"
#include "trainer/record/step_report.h"

namespace espalier {
namespace asio = boost::asio;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

namespace {

constexpr auto kTickPeriod = std::chrono::milliseconds(250);
constexpr auto kHangUpSettles = std::chrono::milliseconds(200);
constexpr auto kLeftoverPatience = std::chrono::seconds(10);
constexpr size_t kEventsShown = 40;
constexpr size_t kLossesShown = 400;

double random_jitter() {
  static std::minstd_rand generator{std::random_device{}()};
  return std::generate_canonical<double, 20>(generator);
}

// The shell around the pure machine: turns sockets, signals, processes and time into events, and
// carries out the actions.
class CoordinatorService {
 public:
  explicit CoordinatorService(const CoordinatorSettings& settings)
      : settings_(settings),
        files_{settings.run_directory},
        lock_(files_.lock()),
        journal_(files_.journal()),
        token_(load_or_create_token(files_.token())),
        machine_(limits(settings), random_jitter),
        signals_(context_, SIGINT, SIGTERM, SIGUSR1),
        tick_timer_(context_),
        control_(context_, token_, 4 * settings.ranks + 32,
                 {[this](auto& peer) { return admit(peer); }, [this](auto& peer) { joined(peer); },
                  [this](auto& peer, auto type, auto& payload) { message(peer, type, payload); },
                  [this](auto& peer) { hung_up(peer); }}),
        status_(context_, [this] { return status().dump(); }),
        progress_(stdout) {}

  int run() {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    files_.write_address(control_.port(), status_.port());
    progress_.say("status page: http://127.0.0.1:" + std::to_string(status_.port()) + "/");
    wait_for_signal();
    const JournalState& before = journal_.state();
    const bool alive = is_alive(before.launcher_pid, before.launcher_start);
    if (alive) {
      launcher_pid_ = before.launcher_pid;
      launcher_start_ = before.launcher_start;
      launcher_is_child_ = false;
    }
    handle(CoordinatorStart{before.generation, before.last_commit, alive,
                            alive && before.job == settings_.job});
    tick();
    context_.run();
    return exit_code_;
  }

 private:
  static CoordinatorLimits limits(const CoordinatorSettings& settings) {
    CoordinatorLimits limits;
    limits.world_size = settings.ranks;
    return limits;
  }

  Seconds now() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }

  void handle(const CoordinatorEvent& event) {
    if (machine_.finished()) return;
    for (const auto& action : machine_.handle(event, now())) {
      std::visit([this](const auto& a) { perform(a); }, action);
    }
  }

  // ---- actions ----------------------------------------------------------------------------------
  void perform(const LaunchJob& action) {
    try {
      launch(action.generation);
      handle(LauncherStarted{action.generation, launcher_pid_});
    } catch (const std::exception& error) {
      handle(LauncherFailed{error.what()});
    }
  }

  void launch(uint32_t generation) {
    const std::string logs = files_.logs(generation);
    const std::string scratch = files_.scratch(generation);
    fs::create_directories(logs);
    fs::create_directories(scratch);
    LaunchRequest request;
    request.ranks = settings_.ranks;
    request.program = settings_.program;
    request.arguments = machine_.last_commit() > journal_.state().last_commit
                            ? settings_.later_arguments
                            : settings_.first_arguments;
    request.scratch_directory = scratch;
    request.log_path = logs + "/mpirun.log";
    request.environment = {{"ESPALIER_COORDINATOR", files_.address()},
                           {"ESPALIER_GENERATION", std::to_string(generation)},
                           {"ESPALIER_LOG_DIRECTORY", logs}};
    request.extra_launcher_arguments = settings_.launcher_arguments;
    journal_.launching(generation);
    launcher_pid_ = spawn_launcher(request, this_machine());
    launcher_start_ = process_start_time(launcher_pid_);
    launcher_is_child_ = true;
    ranks_of_generation_.clear();
    journal_.launched(generation, launcher_pid_, launcher_start_, settings_.job);
  }

  void perform(const EndLeftover&) {
    ::kill(launcher_pid_, SIGTERM);
    leftover_since_ = Clock::now();
  }

  void perform(const EndJob& action) {
    spdlog::info("ending the job{}: {}", action.at_once ? " at once" : "", action.why);
    if (is_alive(launcher_pid_, launcher_start_)) {
      ::kill(launcher_pid_, action.at_once ? SIGKILL : SIGTERM);
    }
    if (action.at_once) kill_ranks();
  }

  void perform(const SendStop& action) {
    control_.send(action.rank, MessageType::kStop, {{"why", action.why}});
  }

  void perform(const AllowCommit& action) {
    control_.send(-1, MessageType::kCkptCommit, {{"step", action.step}});
  }

  void perform(const RecordCommit& action) { journal_.committed(action.generation, action.step); }

  void perform(const NoteEvent& action) {
    json event = {{"event", action.event},
                  {"text", action.text},
                  {"source", "coordinator"},
                  {"generation", machine_.generation()},
                  {"time", unix_time_s()}};
    if (action.rank >= 0) event["rank"] = action.rank;
    files_.append_event(event);
    events_.push_back(std::move(event));
    if (events_.size() > kEventsShown) events_.erase(events_.begin());
    spdlog::info("{}: {}", action.event, action.text);
    if (action.event != "committed") progress_.say(action.event + ": " + action.text);
  }

  void perform(const FinishRun& action) {
    exit_code_ = action.exit_code;
    journal_.finished(action.exit_code, action.why);
    perform(NoteEvent{action.exit_code == 0 ? "finished" : "ended",
                      action.why + " (exit code " + std::to_string(action.exit_code) + ")", -1});
    progress_.close();
    control_.close();
    status_.close();
    signals_.cancel();
    tick_timer_.cancel();
    files_.remove_address();
    std::error_code ignored;
    fs::remove(fs::path(files_.scratch(0)).parent_path(), ignored);  // when it is empty
    context_.stop();
  }

  // ---- processes --------------------------------------------------------------------------------
  void tick() {
    reap();
    if (leftover_since_ && !is_alive(launcher_pid_, launcher_start_)) {
      leftover_since_.reset();
      launcher_pid_ = 0;
      handle(LeftoverGone{});
    } else if (leftover_since_ && Clock::now() - *leftover_since_ > kLeftoverPatience) {
      ::kill(launcher_pid_, SIGKILL);
    } else if (!leftover_since_ && launcher_pid_ != 0 && !launcher_is_child_ &&
               !is_alive(launcher_pid_, launcher_start_)) {
      launcher_ended(-1);
    }
    handle(ClockTick{});
    if (machine_.finished()) return;
    tick_timer_.expires_after(kTickPeriod);
    tick_timer_.async_wait([this](boost::system::error_code error) {
      if (!error) tick();
    });
  }

  void reap() {
    int status = 0;
    for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != launcher_pid_ || !launcher_is_child_) continue;
      launcher_ended(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    }
  }

  void launcher_ended(int status) {
    launcher_pid_ = 0;
    kill_ranks();
    journal_.launcher_ended(machine_.generation(), status);
    std::error_code ignored;
    fs::remove_all(files_.scratch(machine_.generation()), ignored);
    // What a rank could not say over the channel it has left in a file.
    for (const auto& error : files_.read_errors(machine_.generation())) {
      handle(RankError{machine_.generation(), error.rank, error.failure_class, error.what});
    }
    spdlog::info("the launcher ended with status {}", status);
    handle(LauncherExited{status});
  }

  // A rank that outlives its launcher holds the run directory and could still write into it.
  void kill_ranks() {
    for (const auto& [pid, start] : ranks_of_generation_) {
      if (is_alive(pid, start)) ::kill(pid, SIGKILL);
    }
  }

  void wait_for_signal() {
    signals_.async_wait([this](boost::system::error_code error, int number) {
      if (error) return;
      const char* name = number == SIGINT ? "SIGINT" : number == SIGTERM ? "SIGTERM" : "SIGUSR1";
      handle(StopRequested{name});
      if (!machine_.finished()) wait_for_signal();
    });
  }

  // ---- the control channel ----------------------------------------------------------------------
  std::string admit(const PeerIdentity& peer) const {
    if (peer.rank == kOperatorRank) return "";
    if (peer.generation != machine_.generation()) {
      return "generation " + std::to_string(peer.generation) + " is over, " +
             std::to_string(machine_.generation()) + " runs";
    }
    if (peer.rank >= static_cast<uint32_t>(settings_.ranks)) return "no such rank";
    return "";
  }

  void joined(const PeerIdentity& peer) {
    if (peer.rank == kOperatorRank) return;
    ranks_of_generation_[peer.pid] = process_start_time(peer.pid);
    handle(RankJoined{peer.generation, static_cast<int>(peer.rank), peer.pid});
  }

  void message(const PeerIdentity& peer, MessageType type, const json& payload) {
    const int rank = static_cast<int>(peer.rank);
    const auto text = [&](const char* name) { return payload.value(name, std::string()); };
    if (peer.rank == kOperatorRank) {
      if (type == MessageType::kStop) handle(StopRequested{text("why")});
      return;
    }
    switch (type) {
      case MessageType::kBeat:
        beat(peer, payload);
        break;
      case MessageType::kMetrics:
        if (rank == 0) show(step_report_from_json(payload));
        break;
      case MessageType::kCkptPrepared:
        handle(RankPrepared{peer.generation, rank, payload.value("step", int64_t{-1})});
        break;
      case MessageType::kCkptCommitted:
        handle(RankCommitted{peer.generation, rank, payload.value("step", int64_t{-1})});
        break;
      case MessageType::kErrorReport:
        handle(RankError{peer.generation, rank, text("class"), text("what")});
        break;
      case MessageType::kBye:
        handle(RankBye{peer.generation, rank, payload.value("exit_code", 70)});
        break;
      default:
        throw FrameError("a worker sent " + std::string(name_of(type)));
    }
  }

  void beat(const PeerIdentity& peer, const json& payload) {
    const int rank = static_cast<int>(peer.rank);
    const std::string phase = payload.value("phase", std::string());
    const json work = payload.value("work", json::object());
    const int64_t done = work.value("done", int64_t{0});
    handle(RankBeat{peer.generation, rank, payload.value("step", int64_t{-1}), phase, done});
    if (rank != 0) return;
    progress_.phase(phase);
    const std::string what = work.value("what", std::string());
    if (!what.empty()) progress_.work({what, done, work.value("total", int64_t{0})});
  }

  void hung_up(const PeerIdentity& peer) {
    if (peer.rank == kOperatorRank) return;
    // A dying process closes its sockets a moment before it is gone.
    auto timer = std::make_shared<asio::steady_timer>(context_, kHangUpSettles);
    timer->async_wait([this, peer, timer](boost::system::error_code) {
      const auto rank = ranks_of_generation_.find(peer.pid);
      const bool gone = rank == ranks_of_generation_.end() || !is_alive(rank->first, rank->second);
      handle(RankHungUp{peer.generation, static_cast<int>(peer.rank), gone});
    });
  }

  void show(const StepReport& report) {
    report_ = report;
    progress_.step(report);
    losses_.push_back({report.global_step, report.total_loss});
    if (losses_.size() > kLossesShown) {  // keep every second one: the whole run stays in view
      std::vector<std::pair<int64_t, double>> kept;
      for (size_t i = 0; i < losses_.size(); i += 2) kept.push_back(losses_[i]);
      losses_ = std::move(kept);
    }
  }

  json status() const {
    json ranks = json::array();
    for (size_t i = 0; i < machine_.ranks().size(); ++i) {
      const RankView& view = machine_.ranks()[i];
      ranks.push_back({{"rank", i},
                       {"pid", view.pid},
                       {"joined", view.joined},
                       {"suspect", view.suspect},
                       {"step", view.step},
                       {"phase", view.phase},
                       {"beat_age_s", view.joined ? now() - view.last_beat : -1},
                       {"progress_age_s", view.joined ? now() - view.last_progress : -1}});
    }
    return {{"run", settings_.run_directory},
            {"pid", ::getpid()},
            {"state", name_of(machine_.state())},
            {"stopping", machine_.stopping()},
            {"generation", machine_.generation()},
            {"world_size", settings_.ranks},
            {"restarts", machine_.restarts()},
            {"last_commit_step", machine_.last_commit()},
            {"step_deadline_s", machine_.step_deadline()},
            {"uptime_s", now()},
            {"progress", report_ ? to_json(*report_) : json()},
            {"losses", losses_},
            {"ranks", std::move(ranks)},
            {"refused_connections", control_.counters().refused},
            {"events", events_}};
  }

  const CoordinatorSettings settings_;
  const CoordinatorFiles files_;
  const FileLock lock_;
  Journal journal_;
  const SecretKey token_;
  const Clock::time_point started_ = Clock::now();
  Coordinator machine_;
  asio::io_context context_;
  asio::signal_set signals_;
  asio::steady_timer tick_timer_;
  ControlServer control_;
  StatusServer status_;
  Progress progress_;

  int launcher_pid_ = 0;
  uint64_t launcher_start_ = 0;
  bool launcher_is_child_ = true;
  std::optional<Clock::time_point> leftover_since_;
  std::map<int, uint64_t> ranks_of_generation_;  // start time by pid
  std::optional<StepReport> report_;
  std::vector<std::pair<int64_t, double>> losses_;
  std::vector<json> events_;
  int exit_code_ = 70;
};

}  // namespace

int run_coordinator(const CoordinatorSettings& settings) {
  return CoordinatorService(settings).run();
}

}  // namespace espalier
