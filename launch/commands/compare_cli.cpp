#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "launch/commands/commands.h"
#include "launch/commands/declare.h"

namespace espalier {

void declare_compare_commands(CLI::App& app, Command& chosen) {
  struct Runs {
    std::string directory = "runs";
    bool as_json = false;
  };
  auto runs = std::make_shared<Runs>();
  auto* command = app.add_subcommand("runs", "List the runs in a directory");
  command->add_option("DIR", runs->directory, "Directory that holds runs")->capture_default_str();
  command->add_flag("--json", runs->as_json, "As JSON");
  command->callback(
      [&chosen, runs] { chosen = [=] { return run_runs(runs->directory, runs->as_json); }; });

  auto compare = std::make_shared<CompareArguments>();
  command = app.add_subcommand(
      "compare", "Show runs side by side: settings that differ, curves, metrics, pictures");
  command->add_option("RUN", compare->runs, "Run directories, two or more")->required();
  command->add_option("--html", compare->html, "Also write a page with charts and pictures");
  command->add_flag("--json", compare->as_json, "As JSON");
  command->callback([&chosen, compare] { chosen = [=] { return run_compare(*compare); }; });
}

}  // namespace espalier
