#include "launch/commands/shell/man_page.h"

#include "launch/commands/shell/cli_tree.h"

namespace espalier {
namespace {

// Text that roff takes as it is: no escapes, no requests, and dashes that can be copied.
std::string roff(const std::string& text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    line_begins = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

void append_option(std::string& page, const CliOption& option) {
  page += ".TP\n";
  for (size_t i = 0; i < option.names.size(); ++i) {
    page += (i == 0 ? "" : ", ") + std::string("\\fB") + roff(option.names[i]) + "\\fR";
  }
  if (option.takes_value && !option.is_positional) page += " \\fIVALUE\\fR";
  page += "\n" + roff(option.help) + "\n";
}

std::string synopsis(const CliCommand& command) {
  std::string line = ".B espalier" + (command.path.empty() ? "" : " " + command.path) + "\n";
  for (const CliOption& option : options_of(*command.app)) {
    if (option.is_positional) line += ".I " + option.names[0] + "\n";
  }
  return line + ".RI [ options ]\n";
}

}  // namespace

std::string man_page(const CLI::App& app, const std::string& version) {
  std::string page = ".TH ESPALIER 1 \"\" \"" + roff(version) + "\" \"User Commands\"\n";
  page += ".SH NAME\nespalier \\- train one multimodal model on many objectives\n";
  page += ".SH SYNOPSIS\n.B espalier\n.I COMMAND\n.RI [ options ]\n";
  page += ".SH DESCRIPTION\n" + roff(app.get_description()) + "\n";
  page += ".SH OPTIONS\n";
  for (const CliOption& option : options_of(app)) append_option(page, option);
  page += ".SH COMMANDS\n";
  for (const CliCommand& command : all_commands(app)) {
    if (command.path.empty()) continue;
    page += ".SS " + command.path + "\n" + roff(command.app->get_description()) + ".\n.PP\n";
    if (!commands_of(*command.app).empty()) continue;  // its commands follow
    page += synopsis(command);
    for (const CliOption& option : options_of(*command.app)) append_option(page, option);
    const std::string footer = command.app->get_footer();  // the program's, unless it has its own
    if (footer != app.get_footer()) page += ".PP\n" + roff(footer) + "\n";
  }
  page += ".SH EXIT STATUS\n" + roff(app.get_footer()) + "\n";
  page += ".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nNo colours, where it is set and not empty.\n";
  page +=
      ".TP\n.B SPDLOG_LEVEL\ndebug, info, warn: how much is said, as by \\-\\-verbose and "
      "\\-\\-quiet.\n";
  return page;
}

}  // namespace espalier
