#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "launch/commands/commands.h"
#include "launch/commands/declare.h"

namespace espalier {

void declare_run_commands(CLI::App& app, Command& chosen) {
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
  auto watches = std::make_shared<bool>(false);
  auto period = std::make_shared<double>(1);
  status
      ->add_flag("--watch", *watches,
                 "A page that renews itself, with the curves of the losses, until the run is over")
      ->excludes("--json");
  status->add_option("--every", *period, "Seconds between pages of --watch")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  status->callback([&chosen, run, as_json, token, watches, period] {
    chosen = [=] {
      return *watches ? run_watch(*run, *period, *token) : run_status(*run, *as_json, *token);
    };
  });
  auto* stop = add("stop", "Stop a run with a checkpoint");
  stop->add_option("--token", *token, "Token file of an operator; default: RUN/tokens/operator");
  stop->callback([&chosen, run, token] { chosen = [=] { return run_stop(*run, *token); }; });
  add("report", "Write RUN/report.html and RUN/report.json")->callback([&chosen, run] {
    chosen = [=] { return run_report(*run); };
  });
  auto diagnose = std::make_shared<DiagnoseArguments>();
  auto* diagnosis =
      add("diagnose", "Say where objectives disturb each other, and where a model should fork");
  diagnosis->add_option("--html", diagnose->html, "Page to write; default: RUN/diagnosis.html");
  diagnosis->add_flag("--json", diagnose->as_json, "As JSON");
  diagnosis->callback([&chosen, run, diagnose] {
    diagnose->run = *run;
    chosen = [=] { return run_diagnose(*diagnose); };
  });
  auto logs = std::make_shared<LogsArguments>();
  auto* command = add("logs", "Show the ends of a run's logs");
  command->add_option("--generation", logs->generation, "Default: the newest");
  command->add_option("--rank", logs->rank, "Default: all");
  command->add_option("--lines", logs->lines, "From each file")->capture_default_str();
  command->add_flag("-f,--follow", logs->follow,
                    "Go on with what is added, over relaunches too, until the run is over");
  command->callback([&chosen, run, logs] {
    logs->run = *run;
    chosen = [=] { return run_logs(*logs); };
  });
}

void declare_certificate(CLI::App& app, Command& chosen) {
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

}  // namespace espalier
