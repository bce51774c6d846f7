#include "trainer/checkpoint/checkpoint_choice.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/errors.h"
#include "trainer/record/run_directory.h"

namespace espalier {
namespace {

std::string steps_of(const std::vector<CheckpointDirectory>& kept) {
  std::string steps;
  for (const auto& checkpoint : kept) {
    steps += (steps.empty() ? "" : ", ") + std::to_string(checkpoint.step);
  }
  return steps;
}

}  // namespace

std::string chosen_checkpoint(const std::string& run_directory, const CheckpointChoice& choice) {
  if (!std::filesystem::exists(run_directory + "/config.toml")) {
    throw ConfigError(run_directory + " is not a run directory: it has no config.toml");
  }
  const std::string root = RunDirectory::checkpoints(run_directory);
  const std::vector<CheckpointDirectory> kept = list_checkpoints(root);
  if (kept.empty()) throw ConfigError(run_directory + " has no checkpoint yet");
  if (choice.is_best) {
    const std::string best = best_checkpoint(root);
    if (!best.empty() && std::filesystem::exists(root + "/" + best)) return root + "/" + best;
    throw ConfigError(run_directory +
                      " has no best checkpoint: it was trained without checkpoint.best, or has not "
                      "been evaluated yet; leave --best out, or choose one of its steps with "
                      "--step: " +
                      steps_of(kept));
  }
  if (choice.step < 0) return kept.back().path;
  const auto found = std::find_if(kept.begin(), kept.end(),
                                  [&](const auto& one) { return one.step == choice.step; });
  if (found != kept.end()) return found->path;
  throw ConfigError(run_directory + " has no checkpoint of step " + std::to_string(choice.step) +
                    "; it keeps those of steps " + steps_of(kept) +
                    " (checkpoint.keep and checkpoint.every_steps say how many)");
}

}  // namespace espalier
