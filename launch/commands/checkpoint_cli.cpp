#include <memory>

#include <CLI/CLI.hpp>

#include "launch/commands/checkpoint_options.h"
#include "launch/commands/commands.h"
#include "launch/commands/declare.h"

namespace espalier {

void declare_checkpoint_commands(CLI::App& app, Command& chosen) {
  auto* checkpoint = app.add_subcommand("checkpoint", "Take a run's weights elsewhere");
  checkpoint->require_subcommand(1);
  auto arguments = std::make_shared<ExportArguments>();
  auto* command = checkpoint->add_subcommand(
      "export", "Write a run's models as safetensors files that other libraries read");
  command->add_option("RUN", arguments->run, "Run directory")->required();
  command->add_option("--to", arguments->to, "Folder to write: a new one, or an earlier export")
      ->required();
  add_checkpoint_options(command, &arguments->checkpoint);
  auto* averages = command->add_flag("--averages", arguments->averages,
                                     "Averaged weights (default: where the run keeps them)");
  command->add_flag("--raw", arguments->raw, "The weights themselves, not their averages")
      ->excludes(averages);
  command->add_option("--decoder", arguments->decoder,
                      "A text branch: with its trunk an ordinary Qwen2 or Llama for transformers");
  command
      ->add_option("--max-shard-size", arguments->max_shard_size,
                   "Several files where one would be larger: 4GB, 500MB, 2GiB")
      ->capture_default_str();
  command->callback(
      [&chosen, arguments] { chosen = [=] { return run_checkpoint_export(*arguments); }; });
}

}  // namespace espalier
