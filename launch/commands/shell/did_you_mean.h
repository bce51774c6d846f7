#pragma once

#include <string>

namespace CLI {
class App;
}

namespace espalier {

// After a command line that CLI11 refused: a line that names the nearest command or option for the
// first word that is none, or "".
std::string did_you_mean(const CLI::App& app, int argc, const char* const* argv);

}  // namespace espalier
