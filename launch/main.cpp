#include <csignal>
#include <cstdio>

#include <CLI/CLI.hpp>

#include "launch/commands/commands.h"
#include "launch/commands/declare.h"
#include "launch/commands/shell/did_you_mean.h"
#include "launch/protocol/failure.h"
#include "launch/worker/logging.h"

namespace espalier {
namespace {

int run(int argc, char** argv) {
  CLI::App app("Espalier trains one multimodal model on many objectives, over many processes.",
               "espalier");
  app.set_version_flag("--version", program_version());
  bool is_quiet = false, is_verbose = false;
  auto* quiet = app.add_flag("-q,--quiet", is_quiet, "Say warnings and errors only");
  app.add_flag("-v,--verbose", is_verbose, "Say more: what is launched, and every connection")
      ->excludes(quiet);
  app.fallthrough();  // both may also stand behind the command
  app.require_subcommand(1);
  app.footer(explain_exit_codes());
  Command chosen;
  declare_training_commands(app, chosen);
  declare_run_commands(app, chosen);
  declare_certificate(app, chosen);
  declare_inference_commands(app, chosen);
  declare_checkpoint_commands(app, chosen);
  declare_compare_commands(app, chosen);
  declare_data_and_config(app, chosen);
  declare_shell_help(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int exit_code = app.exit(error) == 0 ? kExitDone : kExitUsage;
    if (exit_code != kExitDone) std::fputs(did_you_mean(app, argc, argv).c_str(), stderr);
    return exit_code;
  }
  if (is_quiet) set_log_level("warn");
  if (is_verbose) set_log_level("debug");
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
