#pragma once

#include <random>
#include <string>
#include <vector>

namespace espalier {

// A config with one to three mistakes that people and their scripts make, and what they are: keys
// gone, doubled, unknown; values of another type, out of range, too long, no text; names of one
// thing in the place of another's; a file cut short.
struct MutatedConfig {
  std::string text;
  std::string mutations;
};
MutatedConfig mutate_config(const std::string& text, std::mt19937_64& random);

}  // namespace espalier
