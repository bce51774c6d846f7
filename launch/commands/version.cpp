#include <string>

#include <torch/version.h>

#include "launch/commands/commands.h"
#include "launch/commit.h"

namespace espalier {

std::string program_version() {
  return std::string("espalier " ESPALIER_VERSION " (commit ") + commit_of_program() +
         ", LibTorch " + TORCH_VERSION + ")";
}

}  // namespace espalier
