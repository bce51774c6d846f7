#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "launch/commands/commands.h"
#include "launch/commands/declare.h"
#include "launch/commands/shell/completion.h"
#include "launch/commands/shell/man_page.h"
#include "launch/protocol/failure_class.h"

namespace espalier {
namespace {

int print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return kExitDone;
}

}  // namespace

void declare_shell_help(CLI::App& app, Command& chosen) {
  auto shell = std::make_shared<std::string>();
  auto config = std::make_shared<std::string>();
  auto* command = app.add_subcommand("completion", "A script that completes commands in a shell");
  command->add_option("SHELL", *shell, "bash, zsh or fish; keys: the settings of CONFIG")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish", "keys"}));
  command->add_option("CONFIG", *config, "With keys: the config, or any when there is none");
  command->callback([&app, &chosen, shell, config] {
    chosen = [=, &app] {
      return print(*shell == "keys" ? setting_keys(*config) : completion_script(app, *shell));
    };
  });
  app.add_subcommand("man", "The manual page: espalier man | man -l -")->callback([&app, &chosen] {
    chosen = [&app] { return print(man_page(app, program_version())); };
  });
}

}  // namespace espalier
