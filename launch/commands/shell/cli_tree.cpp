#include "launch/commands/shell/cli_tree.h"

namespace espalier {

std::vector<CliOption> options_of(const CLI::App& app) {
  std::vector<CliOption> options;
  for (const CLI::Option* option : app.get_options()) {
    CliOption out{.names = {},
                  .help = option->get_description(),
                  .takes_value = option->get_items_expected_max() > 0,
                  .is_positional = option->get_positional()};
    for (const std::string& name : option->get_snames()) out.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) out.names.push_back("--" + name);
    if (out.is_positional) out.names = {option->get_name()};
    options.push_back(std::move(out));
  }
  return options;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<CliCommand> all_commands(const CLI::App& app) {
  std::vector<CliCommand> all = {{"", &app}};
  for (size_t i = 0; i < all.size(); ++i) {
    const CliCommand parent = all[i];
    for (const CLI::App* child : commands_of(*parent.app)) {
      all.push_back({parent.path + (parent.path.empty() ? "" : " ") + child->get_name(), child});
    }
  }
  return all;
}

}  // namespace espalier
