#include "launch/commands/shell/did_you_mean.h"

#include <algorithm>
#include <vector>

#include "launch/commands/shell/cli_tree.h"
#include "trainer/config/nearest.h"

namespace espalier {
namespace {

std::vector<CliOption> options_here(const CLI::App& root, const CLI::App& app) {
  std::vector<CliOption> options = options_of(app);
  if (&app == &root) return options;
  for (CliOption& option : options_of(root)) options.push_back(std::move(option));
  return options;
}

const CliOption* find(const std::vector<CliOption>& options, const std::string& name) {
  for (const CliOption& option : options) {
    if (std::count(option.names.begin(), option.names.end(), name) > 0) return &option;
  }
  return nullptr;
}

std::string answer(const std::string& what, const std::string& word,
                   const std::vector<std::string>& known) {
  const std::string nearest = nearest_word(word, known);
  if (nearest.empty()) return "";
  return "espalier: there is no " + what + " \"" + word + "\"; did you mean " + nearest + "?\n";
}

}  // namespace

std::string did_you_mean(const CLI::App& root, int argc, const char* const* argv) {
  const CLI::App* app = &root;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::vector<CliOption> options = options_here(root, *app);
    if (word.size() > 1 && word[0] == '-') {
      const std::string name = word.substr(0, word.starts_with("--") ? word.find('=') : 2);
      const CliOption* const option = find(options, name);
      if (option == nullptr) {
        std::vector<std::string> known;
        for (const CliOption& each : options) {
          if (each.is_positional) continue;
          known.insert(known.end(), each.names.begin(), each.names.end());
        }
        return answer("option", word.substr(0, word.find('=')), known);
      }
      if (option->takes_value && name == word) ++i;
      continue;
    }
    const std::vector<const CLI::App*> commands = commands_of(*app);
    const auto next = std::find_if(commands.begin(), commands.end(),
                                   [&](const CLI::App* each) { return each->get_name() == word; });
    if (next != commands.end()) {
      app = *next;
    } else if (!commands.empty()) {
      std::vector<std::string> known;
      for (const CLI::App* each : commands) known.push_back(each->get_name());
      return answer("command", word, known);
    }
  }
  return "";
}

}  // namespace espalier
