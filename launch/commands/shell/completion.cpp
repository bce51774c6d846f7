#include "launch/commands/shell/completion.h"

#include "launch/commands/shell/cli_tree.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

std::string words_after(const CLI::App& app) {
  std::string words;
  for (const CLI::App* child : commands_of(app)) words += child->get_name() + " ";
  for (const CliOption& option : options_of(app)) {
    if (option.is_positional) continue;
    for (const std::string& name : option.names) words += name + " ";
  }
  if (!words.empty()) words.pop_back();
  return words;
}

// "$path" is the command as far as it is typed, "data inspect"; files complete where no word fits.
std::string bash_script(const CLI::App& app) {
  std::string paths, cases;
  for (const CliCommand& command : all_commands(app)) {
    if (!command.path.empty()) paths += (paths.empty() ? "" : "|") + ("\"" + command.path + "\"");
    cases += "    \"" + command.path + "\") words=\"" + words_after(*command.app) + "\" ;;\n";
  }
  return R"(# espalier completion bash: source it, or keep it in ~/.local/share/bash-completion/completions/espalier
_espalier() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= config= words= word i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    case "${path:+$path }$word" in
      )" +
         paths +
         R"() path="${path:+$path }$word" ;;
      *.toml) config=$word ;;
    esac
  done
  if [ "$prev" = --set ]; then
    words=$("${COMP_WORDS[0]}" completion keys ${config:+"$config"} 2>/dev/null)
    COMPREPLY=($(compgen -S = -W "$words" -- "$cur"))
    compopt -o nospace 2>/dev/null
    return
  fi
  case "$path" in
)" + cases +
         R"(  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _espalier espalier
)";
}

std::string fish_text(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string fish_script(const CLI::App& app) {
  std::string script = "# espalier completion fish > ~/.config/fish/completions/espalier.fish\n";
  for (const CliCommand& command : all_commands(app)) {
    std::string when = "__fish_use_subcommand";
    if (!command.path.empty()) {
      when.clear();
      for (size_t at = 0; at <= command.path.size();) {
        const size_t end = std::min(command.path.find(' ', at), command.path.size());
        when += (when.empty() ? "" : "; and ") + std::string("__fish_seen_subcommand_from ") +
                command.path.substr(at, end - at);
        at = end + 1;
      }
    }
    const std::string begin = "complete -c espalier -n " + fish_text(when);
    for (const CLI::App* child : commands_of(*command.app)) {
      script +=
          begin + " -a " + child->get_name() + " -d " + fish_text(child->get_description()) + "\n";
    }
    for (const CliOption& option : options_of(*command.app)) {
      if (option.is_positional) continue;
      script += begin;
      for (const std::string& name : option.names) {
        script += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      if (option.names.back() == "--set") {
        script +=
            " -x -a '(espalier completion keys (string match \"*.toml\" (commandline -opc)) "
            "2>/dev/null)='";
      } else if (option.takes_value) {
        script += " -r";
      }
      script += " -d " + fish_text(option.help) + "\n";
    }
  }
  return script;
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  if (shell == "fish") return fish_script(app);
  if (shell == "bash") return bash_script(app);
  // zsh completes by bash's functions since 4.3.
  return "#compdef espalier\nautoload -U +X compinit && compinit\n"
         "autoload -U +X bashcompinit && bashcompinit\n" +
         bash_script(app);
}

std::string setting_keys(const std::string& config) {
  std::string keys;
  if (!config.empty()) {
    try {
      const RunConfig run = load_run_config(config);
      for (const auto& [key, value] : run.values.items()) keys += key + "\n";
      return keys;
    } catch (const ConfigError&) {
      // Nobody reads messages while he presses a key.
    }
  }
  RunConfig example = example_config();
  const Settings settings = declare_settings(example);
  for (const Setting& setting : settings.all()) keys += setting.key + "\n";
  return keys;
}

}  // namespace espalier
