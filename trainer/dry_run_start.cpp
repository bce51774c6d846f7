#include "trainer/dry_run_start.h"

#include <filesystem>

#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/errors.h"
#include "trainer/provenance/run_origin.h"
#include "trainer/provenance/settings_change.h"
#include "trainer/record/run_directory.h"

namespace espalier {
namespace {

// The newest that is whole, "" when there is none. The run would set the damaged ones aside.
std::string newest_whole(const std::string& root, std::ostringstream& report) {
  const auto all = list_checkpoints(root);
  std::string damages;
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    const std::string damage = find_damage(it->path);
    if (damage.empty()) return it->path;
    damages += "\n  " + damage;
    report << "  damaged, and would be set aside: " << damage << "\n";
  }
  if (damages.empty()) return "";
  throw DoNotRequeueError(root + ": there are checkpoints, but none is intact:" + damages);
}

}  // namespace

std::optional<LoadedCheckpoint> find_dry_start(const RunConfig& config, const RunOptions& options,
                                               Communicator& comm, std::ostringstream& report) {
  report << "start\n";
  check_origin(config, options.extends, options.fork_from);
  std::string path = config.checkpoint.resume;
  if (path == "none") {
    find_checkpoint(comm, config, [](const nlohmann::json&) {});  // refuses a run that has some
    path.clear();
  } else if (path == "auto") {
    path = newest_whole(RunDirectory::checkpoints(config.directory), report);
  }
  if (path.empty()) {
    report << "  step 0: " << config.directory << " has no checkpoint"
           << (options.fork_from.empty() ? "" : "; the first weights are those of ")
           << options.fork_from << "\n";
    return std::nullopt;
  }
  LoadedCheckpoint found = load_checkpoint_at(comm, path);
  const RunPosition position = read_position_to_train(found, config, options.extends);
  report << "  step " << found.step << ": " << found.path << " is whole (stage "
         << config.stages[static_cast<size_t>(position.stage_index)].name << ", step "
         << position.stage_step << (position.is_complete ? ", complete" : "") << ")\n";
  const nlohmann::json before = found.state.value("settings", nlohmann::json::object());
  for (const SettingChange& change : result_changes(before, config)) {
    report << "  " << text_of(change) << "\n";
  }
  return found;
}

}  // namespace espalier
