#pragma once

#include <string>

namespace espalier {

// Throws ConfigError when a key of the TOML in `text`, dotted or in the head of a table, has more
// parts than any config has: toml++ takes a call inside a call for each, and the stack ends first.
// `where` names the text: a file (the line is added) or an argument.
void refuse_deep_keys(const std::string& text, const std::string& where);

// What a TOML file holds. Throws ConfigError that says why it cannot be parsed: it is not there, a
// folder, empty, larger than any config, or of keys that are too deep.
std::string read_toml_text(const std::string& path);

}  // namespace espalier
