#include <algorithm>
#include <cstdio>
#include <filesystem>

#include <spdlog/spdlog.h>

#include "launch/commands/commands.h"
#include "launch/coordinator/coordinator_files.h"
#include "launch/coordinator/coordinator_service.h"
#include "launch/coordinator/job_launcher.h"
#include "launch/protocol/failure_class.h"
#include "launch/protocol/handshake.h"
#include "launch/report/report_page.h"
#include "launch/worker/logging.h"
#include "trainer/dry_run.h"
#include "trainer/errors.h"

namespace espalier {
namespace fs = std::filesystem;

namespace {

std::vector<std::string> rank_arguments(const TrainArguments& train, const std::string& resume) {
  std::vector<std::string> out = {"train", train.config};
  for (const auto& set : train.sets) out.insert(out.end(), {"--set", set});
  if (!resume.empty()) out.insert(out.end(), {"--resume", resume});
  return out;
}

std::string fingerprint(const RunConfig& config, const CoordinatorSettings& settings) {
  std::string text = std::to_string(settings.ranks) + "\n" + config.values.dump() + "\n" +
                     std::string(name_of(settings.launcher));
  for (const auto& argument : settings.launcher_arguments) text += "\n" + argument;
  return to_hex(hmac_sha256(SecretKey{}, text));
}

int number_of_ranks(const LaunchArguments& arguments, const MachineView& machine) {
  return arguments.ranks > 0 ? arguments.ranks : std::max(1, machine.slurm.tasks);
}

}  // namespace

int run_launch(const LaunchArguments& arguments) {
  const RunConfig config = load_run_config(arguments.train.config, arguments.train.all_sets());
  const MachineView machine = this_machine();
  const int ranks = number_of_ranks(arguments, machine);
  if (arguments.train.dry_run) {
    std::fputs(dry_run(config, ranks).c_str(), stdout);
    return kExitDone;
  }
  validate_for_world(config, ranks);
  const LauncherChoice launcher =
      choose_launcher(parse_launcher(arguments.launcher), ranks, /*has_hosts=*/false, machine);
  const CoordinatorFiles files(config.directory);
  std::error_code error;
  fs::create_directories(files.run + "/logs", error);
  if (error)
    throw ConfigError("run directory " + files.run + " cannot be written: " + error.message());
  log_to_file(files.run + "/logs/coordinator.log");
  spdlog::info("launcher: {} ({})", name_of(launcher.kind), launcher.why);

  CoordinatorSettings settings;
  settings.run_directory = files.run;
  settings.ranks = ranks;
  settings.launcher = launcher.kind;
  settings.program = fs::read_symlink("/proc/self/exe").string();
  // --resume none or PATH say how to begin; once this run has a checkpoint of its own, go on from
  // it.
  settings.first_arguments = rank_arguments(arguments.train, arguments.train.resume);
  settings.later_arguments = rank_arguments(arguments.train, "auto");
  settings.launcher_arguments = arguments.launcher_arguments;
  settings.job = fingerprint(config, settings);
  settings.deadlines = config.deadline;
  const int exit_code = run_coordinator(settings);
  log_plainly();
  if (exit_code == kExitDone) {
    write_report(config.directory);
    std::printf("report: %s/report.html\n", config.directory.c_str());
  } else if (exit_code == kExitStopped) {
    std::printf("stopped; the same command goes on from the last checkpoint\n");
  } else {
    std::printf("logs: %s/logs\n", config.directory.c_str());
  }
  return exit_code;
}

}  // namespace espalier
