#pragma once

#include <string>

namespace CLI {
class App;
}

namespace espalier {

// A script for bash, zsh or fish that completes commands, options and, after --set, the settings of
// the config on the same line, for which it asks `espalier completion keys CONFIG`.
std::string completion_script(const CLI::App& app, const std::string& shell);

// What --set may name, one a line: of the config; where there is none, or it is wrong, of any.
std::string setting_keys(const std::string& config);

}  // namespace espalier
