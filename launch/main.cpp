#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include <spdlog/spdlog.h>
#include <torch/version.h>
#include <CLI/CLI.hpp>

#include "launch/commands/commands.h"
#include "launch/protocol/failure.h"
#include "launch/worker/logging.h"

namespace espalier {
namespace {

using Command = std::function<int()>;

void add_training_options(CLI::App* app, TrainArguments* arguments) {
  app->add_option("CONFIG", arguments->config, "TOML file that describes the run")->required();
  app->add_option("--set", arguments->sets, "Override a setting: a.b=c (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  app->add_option("--resume", arguments->resume, "auto, none, or a checkpoint directory");
  app->add_flag("--dry-run", arguments->dry_run,
                "Check config, data, memory and disk; train nothing");
}

void add_train(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("train", "Train: alone, or as one rank under a launcher");
  auto arguments = std::make_shared<TrainArguments>();
  add_training_options(command, arguments.get());
  command->callback([&chosen, arguments] { chosen = [=] { return run_train(*arguments); }; });
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

void add_launch(CLI::App& app, Command& chosen) {
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

void add_run_commands(CLI::App& app, Command& chosen) {
  auto run = std::make_shared<std::string>();
  const auto add = [&](const char* name, const char* help) {
    auto* command = app.add_subcommand(name, help);
    command->add_option("RUN", *run, "Run directory")->required();
    return command;
  };
  auto token = std::make_shared<std::string>();
  auto as_json = std::make_shared<bool>(false);
  auto* status = add("status", "Show what a run's coordinator knows");
  status->add_flag("--json", *as_json, "As JSON");
  status->add_option("--token", *token, "Token file of a reader; default: RUN/tokens/reader");
  status->callback([&chosen, run, as_json, token] {
    chosen = [=] { return run_status(*run, *as_json, *token); };
  });
  auto* stop = add("stop", "Stop a run with a checkpoint");
  stop->add_option("--token", *token, "Token file of an operator; default: RUN/tokens/operator");
  stop->callback([&chosen, run, token] { chosen = [=] { return run_stop(*run, *token); }; });
  add("report", "Write RUN/report.html and RUN/report.json")->callback([&chosen, run] {
    chosen = [=] { return run_report(*run); };
  });
  struct Logs {
    int generation = 0, rank = -1, lines = 40;
  };
  auto logs = std::make_shared<Logs>();
  auto* command = add("logs", "Show the ends of a run's logs");
  command->add_option("--generation", logs->generation, "Default: the newest");
  command->add_option("--rank", logs->rank, "Default: all");
  command->add_option("--lines", logs->lines, "From each file")->capture_default_str();
  command->callback([&chosen, run, logs] {
    chosen = [=] { return run_logs(*run, logs->generation, logs->rank, logs->lines); };
  });
}

void add_certificate(CLI::App& app, Command& chosen) {
  struct Arguments {
    std::string folder;
    std::vector<std::string> hosts;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "certificate", "Make a key and a certificate for coordinators that other hosts reach");
  command->add_option("FOLDER", arguments->folder, "Where to write them")->required();
  command->add_option("--host", arguments->hosts, "A name or address to write into it (repeatable)")
      ->take_all()
      ->allow_extra_args(false);
  command->callback([&chosen, arguments] {
    chosen = [=] { return run_certificate(arguments->folder, arguments->hosts); };
  });
}

void add_inference_commands(CLI::App& app, Command& chosen) {
  auto evaluate = std::make_shared<EvaluateArguments>();
  auto* command = app.add_subcommand("evaluate", "Measure a run's newest checkpoint");
  command->add_option("RUN", evaluate->run, "Run directory")->required();
  command->add_option("--data", evaluate->data, "Shards; default: the run's own test split");
  command->add_option("--stage", evaluate->stages,
                      "Stages, by name; default: the last that trained each model");
  command->add_option("--metrics", evaluate->metrics,
                      "Only those of these objectives, by name; default: all");
  command->add_option("--json", evaluate->json_path, "Write the numbers to this file");
  command->add_option("--set", evaluate->sets, "Override a setting")
      ->take_all()
      ->allow_extra_args(false);
  command->callback([&chosen, evaluate] { chosen = [=] { return run_evaluate(*evaluate); }; });

  auto caption = std::make_shared<CaptionArguments>();
  command = app.add_subcommand("caption", "Name what is in images");
  command->add_option("IMAGE", caption->images, "PNG or JPEG files")->required();
  command->add_option("--run", caption->run, "Run directory")->required();
  command->add_option("--set", caption->sets, "Override a setting")
      ->take_all()
      ->allow_extra_args(false);
  command->callback([&chosen, caption] { chosen = [=] { return run_caption(*caption); }; });

  auto draw = std::make_shared<DrawArguments>();
  command = app.add_subcommand("draw", "Draw images from names");
  command->add_option("TEXT", draw->texts, "What to draw")->required();
  command->add_option("--run", draw->run, "Run directory")->required();
  command->add_option("--out", draw->out, "Folder for the PNG files")->capture_default_str();
  command->add_option("--seed", draw->seed, "Random seed")->capture_default_str();
  command->add_option("--copies", draw->copies, "Drawings of each text")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--zoom", draw->zoom, "Enlarge every pixel")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--set", draw->sets, "Override a setting")
      ->take_all()
      ->allow_extra_args(false);
  command->callback([&chosen, draw] { chosen = [=] { return run_draw(*draw); }; });
}

void add_data_and_config(CLI::App& app, Command& chosen) {
  auto inspect = std::make_shared<InspectArguments>();
  auto* data = app.add_subcommand("data", "Look at data");
  data->require_subcommand(1);
  auto* command = data->add_subcommand("inspect", "Count and measure samples");
  command
      ->add_option("INPUT", inspect->inputs,
                   "A config, shards, or an index.json of episodes or its folder")
      ->required();
  command->add_option("--sheet", inspect->sheet, "Write a contact sheet of the first split (PNG)");
  command->add_flag("--skip-bad", inspect->skip_bad_samples, "Count bad samples, do not fail");
  command->add_flag("--json", inspect->as_json, "As JSON");
  command->callback([&chosen, inspect] { chosen = [=] { return run_data_inspect(*inspect); }; });

  auto mask = std::make_shared<MaskArguments>();
  command =
      app.add_subcommand("mask", "Who sees whom under an attention mask: counts, picture, matrix");
  command->add_option("SPEC", mask->spec, "Mask file, for example configs/masks/dreamvla.toml")
      ->required();
  command->add_option("--set", mask->sets, "Override a setting of the file: timesteps=2")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--out", mask->out, "FILE.png: a picture; FILE.safetensors: the matrix");
  command->callback([&chosen, mask] { chosen = [=] { return run_mask(*mask); }; });

  auto key = std::make_shared<std::string>();
  auto markdown = std::make_shared<bool>(false);
  auto* config = app.add_subcommand("config", "About settings");
  config->require_subcommand(1);
  command = config->add_subcommand("explain", "What settings there are, or what one does");
  command->add_option("KEY", *key, "For example checkpoint.every_steps");
  command->add_flag("--markdown", *markdown, "The whole reference page");
  command->callback(
      [&chosen, key, markdown] { chosen = [=] { return run_config_explain(*key, *markdown); }; });

  app.add_subcommand("doctor", "What this machine and build have, and what will be used")
      ->callback([&chosen] { chosen = run_doctor; });
}

int run(int argc, char** argv) {
  CLI::App app("Espalier trains one multimodal model on many objectives, over many processes.",
               "espalier");
  app.set_version_flag(
      "--version", std::string("espalier " ESPALIER_VERSION " (LibTorch ") + TORCH_VERSION + ")");
  app.require_subcommand(1);
  app.footer(explain_exit_codes());
  Command chosen;
  add_train(app, chosen);
  add_launch(app, chosen);
  add_run_commands(app, chosen);
  add_certificate(app, chosen);
  add_inference_commands(app, chosen);
  add_data_and_config(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitUsage;
  }
  return chosen();
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  espalier::log_plainly();
  try {
    return espalier::run(argc, argv);
  } catch (...) {
    const auto failure = espalier::describe_failure(std::current_exception());
    std::fprintf(stderr, "espalier: %s%s%s\n", failure.message.c_str(),
                 failure.remedy.empty() ? "" : "; ", failure.remedy.c_str());
    return failure.exit_code();
  }
}
