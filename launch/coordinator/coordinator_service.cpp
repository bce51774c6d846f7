#include "launch/coordinator/coordinator_service.h"

#include <csignal>
#include <filesystem>
#include <optional>
#include <random>
#include <utility>

#include <spdlog/spdlog.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "launch/coordinator/control_server.h"
#include "launch/coordinator/coordinator.h"
#include "launch/coordinator/coordinator_files.h"
#include "launch/coordinator/job_process.h"
#include "launch/coordinator/journal.h"
#include "launch/coordinator/rank_messages.h"
#include "launch/coordinator/run_status.h"
#include "launch/protocol/handshake.h"
#include "launch/status/status_server.h"

namespace espalier {
namespace asio = boost::asio;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using nlohmann::json;

namespace {

constexpr auto kTickPeriod = std::chrono::milliseconds(250);
constexpr auto kHangUpSettles = std::chrono::milliseconds(200);

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
        machine_(settings.ranks, settings.deadlines, random_jitter),
        status_(settings.run_directory),
        signals_(context_, SIGINT, SIGTERM, SIGUSR1),
        tick_timer_(context_),
        control_(context_, token_, 4 * settings.ranks + 32,
                 {[this](auto& peer) { return admit(peer); }, [this](auto& peer) { joined(peer); },
                  [this](auto& peer, auto type, auto& payload) { message(peer, type, payload); },
                  [this](auto& peer) { hung_up(peer); }}),
        status_server_(context_, [this] {
          return status_.to_json(machine_, now(), control_.counters().refused).dump();
        }) {}

  int run() {
    files_.write_address(control_.port(), status_server_.port());
    status_.say("status page: http://127.0.0.1:" + std::to_string(status_server_.port()) + "/");
    wait_for_signal();
    const JournalState& before = journal_.state();
    const bool is_alive = job_.adopt(before.launcher_pid, before.launcher_start);
    handle(CoordinatorStart{before.generation, before.last_commit, is_alive,
                            is_alive && before.job == settings_.job});
    tick();
    context_.run();
    return exit_code_;
  }

 private:
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
      handle(LauncherStarted{action.generation, job_.pid()});
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
    request.launcher = settings_.launcher;
    request.ranks = settings_.ranks;
    request.hosts = settings_.hosts;
    request.remote_agent = settings_.remote_agent;
    request.program = settings_.program;
    request.arguments = machine_.last_commit() > journal_.state().last_commit
                            ? settings_.later_arguments
                            : settings_.first_arguments;
    request.scratch_directory = scratch;
    request.shared_memory_directory = shared_memory_directory(files_.run);
    request.log_path = logs + "/" + std::string(name_of(settings_.launcher)) + ".log";
    request.environment = {{"ESPALIER_COORDINATOR", files_.address()},
                           {"ESPALIER_GENERATION", std::to_string(generation)},
                           {"ESPALIER_LOG_DIRECTORY", logs}};
    request.extra_launcher_arguments = settings_.launcher_arguments;
    journal_.launching(generation);
    job_.start(request);
    journal_.launched(generation, job_.pid(), job_.start_time(), settings_.job);
  }

  void perform(const EndLeftover&) {
    job_.ask_to_end();
    leftover_since_ = now();
  }

  void perform(const EndJob& action) {
    spdlog::info("ending the job{}: {}", action.at_once ? " at once" : "", action.why);
    if (action.at_once) {
      job_.kill();
    } else {
      job_.ask_to_end();
    }
  }

  void perform(const SendStop& action) { control_.send(action.rank, StopMessage{action.why}); }

  void perform(const AllowCommit& action) {
    control_.send(/*rank=*/-1, CheckpointCommitMessage{action.step});
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
    status_.event(std::move(event));
    spdlog::info("{}: {}", action.event, action.text);
    if (action.event != "committed") status_.say(action.event + ": " + action.text);
  }

  void perform(const FinishRun& action) {
    exit_code_ = action.exit_code;
    journal_.finished(action.exit_code, action.why);
    perform(NoteEvent{action.exit_code == kExitDone ? "finished" : "ended",
                      action.why + " (exit code " + std::to_string(action.exit_code) + ")", -1});
    status_.close();
    control_.close();
    status_server_.close();
    signals_.cancel();
    tick_timer_.cancel();
    files_.remove_address();
    std::error_code ignored;
    fs::remove(fs::path(files_.scratch(0)).parent_path(), ignored);  // when it is empty
    context_.stop();
  }

  // ---- processes and signals --------------------------------------------------------------------
  void tick() {
    const std::optional<int> status = job_.poll();
    if (status && leftover_since_) {
      leftover_since_.reset();
      handle(LeftoverGone{});
    } else if (status) {
      launcher_ended(*status);
    } else if (leftover_since_ && now() - *leftover_since_ > settings_.deadlines.kill_grace) {
      job_.kill();
    }
    handle(ClockTick{});
    if (machine_.finished()) return;
    tick_timer_.expires_after(kTickPeriod);
    tick_timer_.async_wait([this](boost::system::error_code error) {
      if (!error) tick();
    });
  }

  void launcher_ended(int status) {
    job_.kill_ranks();
    journal_.launcher_ended(machine_.generation(), status);
    std::error_code ignored;
    fs::remove_all(files_.scratch(machine_.generation()), ignored);
    fs::remove_all(shared_memory_directory(files_.run), ignored);
    // What a rank could not say over the channel it has left in a file.
    for (const auto& error : files_.read_errors(machine_.generation())) {
      handle(RankError{machine_.generation(), error.rank, error.failure_class, error.what});
    }
    spdlog::info("the launcher ended with status {}", status);
    handle(LauncherExited{status});
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
    job_.add_rank(peer.pid);
    handle(RankJoined{peer.generation, static_cast<int>(peer.rank), peer.pid});
  }

  void message(const PeerIdentity& peer, MessageType type, const json& payload) {
    std::optional<CoordinatorEvent> event;
    try {
      event = event_of(peer, type, payload);
    } catch (const FrameError& error) {
      // A rank that holds the token and speaks another protocol cannot be watched over.
      handle(RankError{peer.generation, static_cast<int>(peer.rank), FailureClass::kInternal,
                       std::string("it broke the protocol: ") + error.what()});
      throw;
    }
    if (peer.rank == 0 && type == MessageType::kBeat) status_.beat(BeatMessage::decode(payload));
    if (peer.rank == 0 && type == MessageType::kMetrics) {
      status_.metrics(MetricsMessage::decode(payload));
    }
    if (event) handle(*event);
  }

  void hung_up(const PeerIdentity& peer) {
    if (peer.rank == kOperatorRank) return;
    // A dying process closes its sockets a moment before it is gone.
    auto timer = std::make_shared<asio::steady_timer>(context_, kHangUpSettles);
    timer->async_wait([this, peer, timer](boost::system::error_code) {
      handle(RankHungUp{peer.generation, static_cast<int>(peer.rank), !job_.is_alive(peer.pid)});
    });
  }

  const CoordinatorSettings settings_;
  const CoordinatorFiles files_;
  const FileLock lock_;
  Journal journal_;
  const SecretKey token_;
  const Clock::time_point started_ = Clock::now();
  Coordinator machine_;
  JobProcess job_;
  RunStatus status_;
  asio::io_context context_;
  asio::signal_set signals_;
  asio::steady_timer tick_timer_;
  ControlServer control_;
  StatusServer status_server_;
  std::optional<Seconds> leftover_since_;  // it was asked to end
  int exit_code_ = kExitInternal;
};

}  // namespace

int run_coordinator(const CoordinatorSettings& settings) {
  return CoordinatorService(settings).run();
}

}  // namespace espalier
