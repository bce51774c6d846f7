#pragma once

#include <string>

namespace CLI {
class App;
}

namespace espalier {

// The program's page in section 1, in roff's man macros: `espalier man | man -l -`.
std::string man_page(const CLI::App& app, const std::string& version);

}  // namespace espalier
