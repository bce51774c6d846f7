#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "launch/commands/commands.h"
#include "launch/commands/declare.h"

namespace espalier {
namespace {

void add_training_options(CLI::App* app, TrainArguments* arguments) {
  app->add_option("CONFIG", arguments->config, "TOML file that describes the run")->required();
  app->add_option("--set", arguments->sets, "Override a setting: a.b=c (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  app->add_option("--resume", arguments->resume, "auto, none, or a checkpoint directory");
  auto* extend = app->add_flag("--extend", arguments->extends,
                               "Go on with more steps or stages than the run was begun with");
  app->add_option("--fork-from", arguments->fork_from,
                  "Begin a new run with the weights of another: RUN, RUN@STEP or RUN@best")
      ->excludes(extend);
  app->add_flag("--dry-run", arguments->dry_run,
                "Check config, data, memory and disk; train nothing");
}

void add_host_options(CLI::App* command, LaunchArguments* arguments) {
  command->add_option("--hosts", arguments->hosts,
                      "File that names hosts, one a line: NAME:SLOTS or NAME slots=SLOTS");
  command
      ->add_option("--min", arguments->min_ranks,
                   "Go on with as few ranks while hosts are away; default: wait for all")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--listen", arguments->listen,
                   "Address on which ranks of other hosts find the coordinator; needs --tls")
      ->capture_default_str();
  command->add_option("--tls", arguments->tls, "Folder that `espalier certificate` made");
  command
      ->add_option("--agent", arguments->agent,
                   "What runs a command on another host: AGENT HOST COMMAND")
      ->capture_default_str();
  command->add_option("--network", arguments->network,
                      "What ranks of several hosts speak over: eth0, or 10.1.0.0/16");
}

void declare_train(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("train", "Train: alone, or as one rank under a launcher");
  auto arguments = std::make_shared<TrainArguments>();
  add_training_options(command, arguments.get());
  command->callback([&chosen, arguments] { chosen = [=] { return run_train(*arguments); }; });
}

void declare_launch(CLI::App& app, Command& chosen) {
  auto* command =
      app.add_subcommand("launch", "Train on several ranks under a coordinator that keeps them up");
  auto arguments = std::make_shared<LaunchArguments>();
  add_training_options(command, &arguments->train);
  command
      ->add_option("-n,--ranks", arguments->ranks,
                   "Number of ranks; default: the tasks of the Slurm allocation, or 1")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--launcher", arguments->launcher,
                   "What starts the ranks: auto, mpirun, srun or local")
      ->capture_default_str();
  command
      ->add_option("--mpirun,--launcher-argument", arguments->launcher_arguments,
                   "An argument for the launcher (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  add_host_options(command, arguments.get());
  command
      ->add_option("--stop-before-limit", arguments->stop_before_limit,
                   "In a Slurm job: seconds before its time limit to save and stop; more where "
                   "saves or steps took longer")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  auto* requeue = command->add_flag("--requeue", arguments->requeue,
                                    "In a Slurm job: once stopped by Slurm, be queued again "
                                    "(default: if the job was submitted so)");
  command->add_flag("--no-requeue", arguments->no_requeue, "Never")->excludes(requeue);
  command->callback([&chosen, arguments] { chosen = [=] { return run_launch(*arguments); }; });
}

}  // namespace

void declare_training_commands(CLI::App& app, Command& chosen) {
  declare_train(app, chosen);
  declare_launch(app, chosen);
}

}  // namespace espalier
