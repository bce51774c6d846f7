#include "launch/coordinator/coordinator_service.h"

#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <utility>

#include <spdlog/spdlog.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "launch/coordinator/children.h"
#include "launch/coordinator/control_server.h"
#include "launch/coordinator/coordinator.h"
#include "launch/coordinator/coordinator_files.h"
#include "launch/coordinator/host_probe.h"
#include "launch/coordinator/job_process.h"
#include "launch/coordinator/journal.h"
#include "launch/coordinator/rank_messages.h"
#include "launch/coordinator/run_status.h"
#include "launch/protocol/handshake.h"
#include "launch/slurm/time_limit_watch.h"
#include "launch/status/status_server.h"
#include "trainer/record/json_text.h"

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

const sigset_t& signals_taken() {
  static const sigset_t set = [] {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&signals, number);
    return signals;
  }();
  return set;
}

StopRequested stop_of(int signal_number) {
  StopSource source = StopSource::kPerson;  // SIGINT, SIGHUP
  if (signal_number == SIGTERM) source = StopSource::kScheduler;
  if (signal_number == SIGUSR1) source = StopSource::kWarning;
  return {std::string("SIG") + ::sigabbrev_np(signal_number), source};
}

void release_signals() { ::sigprocmask(SIG_UNBLOCK, &signals_taken(), nullptr); }

// The shell around the pure machine: turns sockets, signals, processes and time into events, and
// carries out the actions.
class CoordinatorService {
 public:
  explicit CoordinatorService(const CoordinatorSettings& settings)
      : settings_(settings),
        files_{settings.run_directory},
        lock_(files_.lock()),
        journal_(files_.journal()),
        tokens_(load_or_create_tokens(files_.tokens())),
        machine_(settings.world, settings.deadlines, random_jitter),
        job_(children_),
        probe_(settings.hosts, settings.agent, settings.deadlines.host_answer, children_),
        status_(settings.run_directory),
        signals_(context_, SIGINT, SIGTERM, SIGUSR1),
        tick_timer_(context_),
        control_(context_, control_options(),
                 {[this](auto& peer) { return admit(peer); }, [this](auto& peer) { joined(peer); },
                  [this](auto& peer, auto type, auto& payload) { message(peer, type, payload); },
                  [this](auto& peer) { hung_up(peer); }, [this] { return status_json(); }}),
        status_server_(context_, [this] { return json_text(status_json()); }),
        time_limit_watch_(context_, settings_.slurm_job_id, [this](double seconds_left) {
          handle(JobEnds{now() + seconds_left, settings_.stop_before_limit});
        }) {
    // A terminal that is closed; but nohup has said that it does not matter.
    if (std::signal(SIGHUP, SIG_DFL) == SIG_IGN) {
      std::signal(SIGHUP, SIG_IGN);
    } else {
      signals_.add(SIGHUP);
    }
  }

  int run() {
    files_.write_address(address());
    const std::string port = std::to_string(status_server_.port());
    status_.say("status page: http://127.0.0.1:" + port + "/; from another machine: ssh -L " +
                port + ":127.0.0.1:" + port + " " + here_.name);
    wait_for_signal();
    release_signals();
    time_limit_watch_.start();
    const JournalState& before = journal_.state();
    const bool is_alive =
        before.machine == here_.machine && job_.adopt(before.launcher_pid, before.launcher_start);
    handle(CoordinatorStart{before.generation, before.last_commit, is_alive,
                            is_alive && before.job == settings_.job, before.ranks});
    tick();
    context_.run();
    return exit_code_;
  }

 private:
  ControlServer::Options control_options() const {
    TlsContext tls;
    if (!settings_.tls_folder.empty()) {
      tls = tls_of_coordinator(CertificateFiles(settings_.tls_folder));
    }
    return {settings_.listen, 0, tls, tokens_, 2 * settings_.world.sizes.front() + 32};
  }

  CoordinatorAddress address() const {
    CoordinatorAddress out;
    out.address = settings_.listen;
    out.control_port = control_.port();
    out.status_port = status_server_.port();
    if (!settings_.tls_folder.empty()) {
      std::ifstream file(CertificateFiles(settings_.tls_folder).certificate());
      out.certificate.assign(std::istreambuf_iterator<char>(file), {});
    }
    out.tokens = files_.tokens();
    out.pid = ::getpid();
    out.host = here_;
    return out;
  }

  json status_json() const { return status_.to_json(machine_, now(), control_.counters().refused); }

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
      launch(action);
      handle(LauncherStarted{action.generation, job_.pid()});
    } catch (const std::exception& error) {
      handle(LauncherFailed{error.what()});
    }
  }

  void launch(const LaunchJob& action) {
    const uint32_t generation = action.generation;
    const std::string logs = files_.logs(generation);
    const std::string scratch = files_.scratch(generation);
    fs::create_directories(logs);
    fs::create_directories(scratch);
    LaunchRequest request;
    request.launcher = settings_.launcher;
    request.ranks = action.ranks;
    request.hosts = action.hosts;
    request.remote_agent = settings_.agent;
    request.network_interfaces = settings_.network;
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
    journal_.launched(generation, job_.pid(), job_.start_time(), action.ranks, settings_.job);
  }

  void perform(const FindHosts&) { probe_.start(now()); }

  void perform(const EndLeftover&) {
    job_.ask_to_end();
    leftover_since_ = now();
  }

  void perform(const EndJob& action) {
    spdlog::info("ending the job{}: {}", action.at_once ? " at once" : "", action.why);
    if (action.at_once) {
      job_.kill();
      control_.send(/*rank=*/-1, EndMessage{action.why});
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
    journal_.finished(action.exit_code, action.why, action.wants_requeue);
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
    children_.reap();
    if (auto hosts = probe_.poll(now())) handle(HostsFound{std::move(*hosts)});
    const int launcher = job_.pid();
    const std::optional<int> status = job_.poll();
    if (status && leftover_since_) {
      leftover_since_.reset();
      handle(LeftoverGone{});
    } else if (status) {
      launcher_ended(launcher, *status);
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

  void launcher_ended(int pid, int status) {
    job_.kill_ranks();
    control_.send(/*rank=*/-1, EndMessage{"the launcher has ended"});  // those on other hosts
    journal_.launcher_ended(machine_.generation(), status);
    std::error_code ignored;
    fs::remove_all(files_.scratch(machine_.generation()), ignored);
    fs::remove_all(session_files_of_open_mpi(pid), ignored);
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
      handle(stop_of(number));
      if (!machine_.finished()) wait_for_signal();
    });
  }

  // ---- the control channel ----------------------------------------------------------------------
  std::string admit(const PeerIdentity& peer) const {
    if (peer.role() != Role::kWorker) return "";
    if (peer.generation != machine_.generation()) {
      return "generation " + std::to_string(peer.generation) + " is over, " +
             std::to_string(machine_.generation()) + " runs";
    }
    if (peer.rank >= machine_.ranks().size()) return "no such rank";
    return "";
  }

  void joined(const PeerIdentity& peer) {
    if (peer.role() != Role::kWorker) return;
    const bool is_local = is_here(peer);
    if (is_local) job_.add_local_rank(peer.pid);
    handle(RankJoined{peer.generation, static_cast<int>(peer.rank), peer.pid, peer.host.name,
                      is_local});
  }

  // Whether its pid can be looked up, and its process ended, by this one.
  bool is_here(const PeerIdentity& peer) const { return peer.host.machine == here_.machine; }

  void message(const PeerIdentity& peer, MessageType type, const json& payload) {
    std::optional<CoordinatorEvent> event;
    try {
      event = event_of(peer, type, payload);
    } catch (const FrameError& error) {
      if (peer.role() != Role::kWorker) throw;
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
    if (peer.role() != Role::kWorker) return;
    // A dying process closes its sockets a moment before it is gone.
    auto timer = std::make_shared<asio::steady_timer>(context_, kHangUpSettles);
    timer->async_wait([this, peer, timer](boost::system::error_code) {
      const bool is_gone = is_here(peer) && !job_.is_alive(peer.pid);
      handle(RankHungUp{peer.generation, static_cast<int>(peer.rank), is_gone});
    });
  }

  const CoordinatorSettings settings_;
  const CoordinatorFiles files_;
  const FileLock lock_;
  Journal journal_;
  const RoleTokens tokens_;
  const HostIdentity here_ = this_host();
  const Clock::time_point started_ = Clock::now();
  Coordinator machine_;
  Children children_;
  JobProcess job_;
  HostProbe probe_;
  RunStatus status_;
  asio::io_context context_;
  asio::signal_set signals_;
  asio::steady_timer tick_timer_;
  ControlServer control_;
  StatusServer status_server_;
  TimeLimitWatch time_limit_watch_;
  std::optional<Seconds> leftover_since_;  // it was asked to end
  int exit_code_ = kExitInternal;
};

}  // namespace

void hold_signals() { ::sigprocmask(SIG_BLOCK, &signals_taken(), nullptr); }

int run_coordinator(const CoordinatorSettings& settings) {
  return CoordinatorService(settings).run();
}

}  // namespace espalier
