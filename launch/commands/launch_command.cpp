#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include <spdlog/spdlog.h>

#include "launch/commands/commands.h"
#include "launch/commands/run_options.h"
#include "launch/coordinator/control_server.h"
#include "launch/coordinator/coordinator_files.h"
#include "launch/coordinator/coordinator_service.h"
#include "launch/coordinator/host_probe.h"
#include "launch/coordinator/job_launcher.h"
#include "launch/coordinator/journal.h"
#include "launch/protocol/failure_class.h"
#include "launch/protocol/handshake.h"
#include "launch/protocol/tls.h"
#include "launch/report/report_page.h"
#include "launch/slurm/requeue.h"
#include "launch/worker/logging.h"
#include "trainer/dry_run.h"
#include "trainer/errors.h"
#include "trainer/provenance/run_origin.h"

namespace espalier {
namespace fs = std::filesystem;

namespace {

std::vector<std::string> rank_arguments(const TrainArguments& train, const std::string& resume) {
  std::vector<std::string> out = {"train", train.config};
  for (const auto& set : train.sets) out.insert(out.end(), {"--set", set});
  if (!resume.empty()) out.insert(out.end(), {"--resume", resume});
  if (train.extends) out.emplace_back("--extend");
  if (!train.fork_from.empty()) out.insert(out.end(), {"--fork-from", train.fork_from});
  return out;
}

std::string fingerprint(const RunConfig& config, const CoordinatorSettings& settings) {
  std::string text = config.values.dump() + "\n" + std::string(name_of(settings.launcher));
  for (const int size : settings.world.sizes) text += "\n" + std::to_string(size);
  for (const auto& host : settings.hosts) {
    text += "\n" + host.name + ":" + std::to_string(host.slots);
  }
  for (const auto& argument : settings.launcher_arguments) text += "\n" + argument;
  return to_hex(hmac_sha256(SecretKey{}, text));
}

int slots_of(const std::vector<HostSlots>& hosts) {
  int slots = 0;
  for (const auto& host : hosts) slots += host.slots;
  return slots;
}

// As many as were asked for, as the hosts have slots, as the Slurm allocation has tasks, or one.
int number_of_ranks(const LaunchArguments& arguments, const std::vector<HostSlots>& hosts,
                    const MachineView& machine) {
  if (arguments.ranks > 0) return arguments.ranks;
  return hosts.empty() ? std::max(1, machine.slurm.tasks) : slots_of(hosts);
}

// The full size, and with --min those smaller ones that every stage's batch divides by.
WorldChoice world_choice(const RunConfig& config, const LaunchArguments& arguments, int ranks,
                         const std::vector<HostSlots>& hosts) {
  validate_for_world(config, ranks);
  WorldChoice world{{ranks}, !hosts.empty()};
  if (arguments.min_ranks == 0) return world;
  if (hosts.empty()) throw ConfigError("--min needs --hosts: the hosts that may be missing");
  if (arguments.min_ranks > ranks) throw ConfigError("--min is more than there are ranks");
  for (int size = ranks - 1; size >= arguments.min_ranks; --size) {
    if (divides_batches(config, size)) world.sizes.push_back(size);
  }
  return world;
}

void set_up_hosts(const LaunchArguments& arguments, CoordinatorSettings& settings) {
  settings.agent = arguments.agent;
  settings.network = arguments.network;
  settings.tls_folder = arguments.tls;
  settings.listen = listen_address(arguments.listen, !arguments.tls.empty());
  const std::string here = this_host().name;
  for (const HostSlots& host : settings.hosts) {
    if (host.name == here || settings.listen != "127.0.0.1") continue;
    throw ConfigError("ranks on host " + host.name +
                      " cannot reach a coordinator that listens on loopback alone; add --listen "
                      "ADDRESS (of " +
                      here + ") and --tls FOLDER");
  }
}

// Ranks on other nodes of a Slurm allocation find the coordinator at its node's address, and know
// it by a certificate that the run keeps for itself.
void be_reachable(const std::string& run, CoordinatorSettings& settings) {
  if (settings.listen != "127.0.0.1") return;
  if (settings.tls_folder.empty()) {
    settings.tls_folder = run + "/coordinator.tls";
    if (!fs::exists(settings.tls_folder)) make_certificate(settings.tls_folder, {});
  }
  const std::string here = this_host().name;
  settings.listen = listen_address(here, /*has_tls=*/true);
  if (settings.listen.starts_with("127.")) {
    throw ConfigError("the name of this node, " + here + ", is " + settings.listen +
                      " here, where no other node can reach it; add --listen ADDRESS");
  }
}

// Told at once, where three launches would fail and say why in a log.
void check_launcher_arguments(LauncherKind launcher, const LaunchArguments& arguments,
                              const MachineView& machine) {
  if (launcher != LauncherKind::kMpirun || arguments.launcher_arguments.empty()) return;
  const std::string why = refused_by_mpirun(arguments.launcher_arguments, machine);
  if (why.empty()) return;
  throw ConfigError("--mpirun: " + why + "; `man mpirun` lists what it takes");
}

// Ends a run that stopped with a checkpoint: in a Slurm job that may, by queueing it again.
int end_stopped(const std::string& journal, const LaunchArguments& arguments,
                const CoordinatorSettings& settings) {
  const JournalState state = read_journal(journal);
  RequeueWish wish = RequeueWish::kAuto;
  if (arguments.requeue) wish = RequeueWish::kAlways;
  if (arguments.no_requeue || !state.wants_requeue) wish = RequeueWish::kNever;
  RequeueDecision decision;
  if (wish != RequeueWish::kNever && !settings.slurm_job_id.empty()) {
    decision =
        decide_requeue(wish, settings.slurm_job_id, ask_slurm_job(settings.slurm_job_id),
                       state.starts_without_commit, settings.deadlines.launches_without_commit);
  }
  if (decision.requeue) {
    hold_signals();  // Slurm now ends this process; it has something to say first
    const std::string trouble = requeue_slurm_job(settings.slurm_job_id);
    if (!trouble.empty()) decision.why = "scontrol requeue: " + trouble;
  }
  if (!decision.why.empty()) {
    spdlog::info("{}", decision.why);
    std::printf("%s\n", decision.why.c_str());
  }
  return decision.is_hopeless ? kExitDoNotRequeue : kExitStopped;
}

void say_what_is_left(int exit_code, const std::string& run) {
  if (exit_code == kExitDone) {
    write_report(run);
    std::printf("report: %s/report.html\n", run.c_str());
  } else if (exit_code == kExitStopped) {
    std::printf("stopped; the same command goes on from the last checkpoint\n");
  } else {
    std::printf("logs: %s/logs\n", run.c_str());
  }
}

}  // namespace

int run_launch(const LaunchArguments& arguments) {
  if (!arguments.train.dry_run) hold_signals();
  const RunConfig config = load_run_config(arguments.train.config, arguments.train.all_sets());
  const MachineView machine = this_machine();
  std::vector<HostSlots> hosts;
  if (!arguments.hosts.empty()) hosts = read_hosts(arguments.hosts);
  const int ranks = number_of_ranks(arguments, hosts, machine);
  if (!hosts.empty() && slots_of(hosts) < ranks) {
    throw ConfigError(arguments.hosts + " has " + std::to_string(slots_of(hosts)) + " slots for " +
                      std::to_string(ranks) + " ranks");
  }
  if (arguments.train.dry_run) {
    std::fputs(dry_run(config, ranks, options_of(arguments.train)).c_str(), stdout);
    return kExitDone;
  }
  check_origin(config, arguments.train.extends, arguments.train.fork_from);
  CoordinatorSettings settings;
  settings.world = world_choice(config, arguments, ranks, hosts);
  settings.hosts = hosts;
  set_up_hosts(arguments, settings);
  const LauncherChoice launcher =
      choose_launcher(parse_launcher(arguments.launcher), ranks, !hosts.empty(), machine);
  check_launcher_arguments(launcher.kind, arguments, machine);
  if (hosts.empty() && machine.slurm.nodes == 0) check_machine(config, ranks);
  const CoordinatorFiles files(config.directory);
  std::error_code error;
  fs::create_directories(files.run + "/logs", error);
  if (error)
    throw ConfigError("run directory " + files.run + " cannot be written: " + error.message());
  log_to_file(files.run + "/logs/coordinator.log");
  spdlog::info("launcher: {} ({})", name_of(launcher.kind), launcher.why);

  settings.run_directory = files.run;
  settings.launcher = launcher.kind;
  if (hosts.empty() && machine.slurm.nodes > 0 && !machine.slurm.only_this_host) {
    be_reachable(files.run, settings);
  }
  settings.program = fs::read_symlink("/proc/self/exe").string();
  // --resume none or PATH say how to begin; once this run has a checkpoint of its own, go on from
  // it.
  settings.first_arguments = rank_arguments(arguments.train, arguments.train.resume);
  settings.later_arguments = rank_arguments(arguments.train, "auto");
  settings.launcher_arguments = arguments.launcher_arguments;
  settings.job = fingerprint(config, settings);
  settings.deadlines = config.deadline;
  settings.stop_before_limit = arguments.stop_before_limit;
  settings.slurm_job_id = slurm_job_id([](const char* name) { return std::getenv(name); });
  if (arguments.requeue && settings.slurm_job_id.empty()) {
    throw ConfigError("--requeue is for a Slurm job, and SLURM_JOB_ID is not set");
  }
  int exit_code = run_coordinator(settings);
  if (exit_code == kExitStopped) exit_code = end_stopped(files.journal(), arguments, settings);
  log_plainly();
  say_what_is_left(exit_code, config.directory);
  return exit_code;
}

}  // namespace espalier
