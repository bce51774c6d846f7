#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace espalier {

// What was declared to CLI11, as the shell's helpers and the man page want it.
struct CliOption {
  std::vector<std::string> names;  // "-n", "--ranks"; one without dashes for what has a place
  std::string help;
  bool takes_value = false;
  bool is_positional = false;
};

std::vector<CliOption> options_of(const CLI::App& app);
std::vector<const CLI::App*> commands_of(const CLI::App& app);

struct CliCommand {
  std::string path;  // "data inspect"; "" is the program
  const CLI::App* app;
};
// The program, then every command below it, parents before their children.
std::vector<CliCommand> all_commands(const CLI::App& app);

}  // namespace espalier
