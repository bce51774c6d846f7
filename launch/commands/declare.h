#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace espalier {

// What the command line asks for; run once all of it was read.
using Command = std::function<int()>;

// Names, options and help of the subcommands, beside what they do: each sets `chosen`.
void declare_training_commands(CLI::App& app, Command& chosen);
void declare_run_commands(CLI::App& app, Command& chosen);
void declare_certificate(CLI::App& app, Command& chosen);
void declare_inference_commands(CLI::App& app, Command& chosen);
void declare_checkpoint_commands(CLI::App& app, Command& chosen);
void declare_compare_commands(CLI::App& app, Command& chosen);
void declare_data_and_config(CLI::App& app, Command& chosen);

// `completion` and `man`, made from what is declared in `app`, which must outlive `chosen`.
void declare_shell_help(CLI::App& app, Command& chosen);

}  // namespace espalier
