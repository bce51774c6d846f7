#include "trainer/checkpoint/checkpoint_loader.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "models/errors.h"
#include "trainer/checkpoint/checkpoint_broadcast.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"
#include "trainer/host/host_name.h"
#include "trainer/record/run_directory.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Returns what is wrong, "" when all of it was read.
std::string read_checkpoint(const std::string& path, LoadedCheckpoint& loaded) {
  const std::string damage = find_damage(path);
  if (!damage.empty()) return damage;
  try {
    const Manifest manifest = parse_manifest(read_text_file(path + "/manifest.json"), path);
    loaded.path = path;
    loaded.step = manifest.step;
    loaded.state = json::parse(read_text_file(path + "/state.json"));
    loaded.tensors.clear();
    for (const auto& [name, digest] : manifest.files) {
      if (!name.ends_with(".safetensors")) continue;
      loaded.tensors.merge(read_safetensors(path + "/" + name));
    }
    return "";
  } catch (const StorageError& error) {
    return error.what();
  } catch (const WeightsError& error) {
    return error.what();
  } catch (const json::exception& error) {
    return path + "/state.json: " + error.what();
  }
}

// Collective. What is wrong with the checkpoint according to rank 0, "" when every rank has it.
std::string read_on_all(Communicator& comm, const std::string& path, bool is_shared,
                        LoadedCheckpoint& loaded) {
  const bool reads = is_shared || comm.rank() == 0;
  const std::string mine = reads ? read_checkpoint(path, loaded) : "";
  if (!is_shared) {
    const std::string complaint = broadcast_text(comm, mine);
    if (complaint.empty()) broadcast_checkpoint(comm, loaded);
    return complaint;
  }
  const std::vector<std::string> complaints = gather_text(comm, mine);
  const std::vector<std::string> hosts = gather_text(comm, host_name());
  if (!complaints[0].empty()) return complaints[0];
  for (size_t rank = 1; rank < complaints.size(); ++rank) {
    if (complaints[rank].empty()) continue;
    throw StorageError("rank " + std::to_string(rank) + " (host " + hosts[rank] +
                       "): " + complaints[rank] +
                       ". Rank 0 reads the same checkpoint without fault, so it stays");
  }
  return "";
}

// Files that lie in a checkpoint and are not of it are not read. That somebody put them there is
// worth a word.
void name_strangers(const std::string& path, const CheckpointEvents& events) {
  const Manifest manifest = parse_manifest(read_text_file(path + "/manifest.json"), path);
  std::vector<std::string> strangers;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (name != "manifest.json" && !manifest.files.contains(name)) strangers.push_back(name);
  }
  if (strangers.empty()) return;
  std::sort(strangers.begin(), strangers.end());
  spdlog::warn("{}: {} is not in its manifest, and not read", path, fmt::join(strangers, ", "));
  events({{"event", "checkpoint_has_other_files"}, {"path", path}, {"files", strangers}});
}

std::string newest_path(const std::string& root) {
  const auto all = list_checkpoints(root);
  return all.empty() ? "" : all.back().path;
}

bool has_quarantined(const std::string& root) {
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(root, missing)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.find(".corrupt-") != std::string::npos) return true;
  }
  return false;
}

}  // namespace

std::optional<LoadedCheckpoint> find_checkpoint(Communicator& comm, const RunConfig& config,
                                                const CheckpointEvents& events) {
  const std::string root = RunDirectory::checkpoints(config.directory);
  const std::string& resume = config.checkpoint.resume;
  const bool is_shared = config.checkpoint.shared;
  if (resume == "auto") return load_newest_checkpoint(comm, root, events, is_shared);
  if (resume != "none") {
    LoadedCheckpoint found = load_checkpoint_at(comm, resume, is_shared);
    set_aside_newer(comm, root, found);
    return found;
  }
  on_rank_0(comm, [&] {
    const auto existing = list_checkpoints(root);
    if (existing.empty()) return std::string();
    throw ConfigError("--resume none: " + config.directory +
                      " already holds checkpoints up to step " +
                      std::to_string(existing.back().step) +
                      "; choose another run.directory, or --resume auto to go on");
  });
  return std::nullopt;
}

std::optional<LoadedCheckpoint> load_newest_checkpoint(Communicator& comm, const std::string& root,
                                                       const CheckpointEvents& events,
                                                       bool is_shared) {
  std::string reasons;
  while (true) {
    const bool is_first = comm.rank() == 0;
    const std::string path = broadcast_text(comm, is_first ? newest_path(root) : "");
    if (path.empty()) break;
    LoadedCheckpoint loaded;
    const std::string complaint = read_on_all(comm, path, is_shared, loaded);
    if (complaint.empty()) {
      if (is_first) name_strangers(path, events);
      return loaded;
    }
    reasons += "\n  " + complaint;
    on_rank_0(comm, [&] {
      const std::string moved = quarantine(path);
      events({{"event", "checkpoint_quarantined"}, {"reason", complaint}, {"moved_to", moved}});
      return std::string();
    });
  }
  const std::string earlier =
      broadcast_text(comm, comm.rank() == 0 && has_quarantined(root) ? "yes" : "");
  if (reasons.empty() && earlier.empty()) return std::nullopt;
  throw DoNotRequeueError(
      root + ": there are checkpoints, but none is intact; not starting over from step 0." +
      (reasons.empty() ? " All of them were set aside as *.corrupt-* before." : reasons) +
      "\nRestore one from a copy, or choose another run.directory to start anew");
}

LoadedCheckpoint load_checkpoint_at(Communicator& comm, const std::string& path, bool is_shared) {
  const std::string chosen = on_rank_0(comm, [&]() -> std::string {
    if (!fs::exists(path))
      throw ConfigError("cannot resume from " + path + ": there is no such checkpoint");
    if (fs::exists(path + "/manifest.json")) {
      return fs::canonical(path).string();  // "best" is a link
    }
    std::string newest = newest_path(path + "/checkpoints");
    if (newest.empty()) newest = newest_path(path);
    if (newest.empty()) {
      throw ConfigError("cannot resume from " + path +
                        ": neither a checkpoint (no manifest.json) nor a run with checkpoints");
    }
    return newest;
  });
  LoadedCheckpoint loaded;
  const std::string complaint = read_on_all(comm, chosen, is_shared, loaded);
  if (!complaint.empty()) {
    throw DoNotRequeueError(path + ": the checkpoint is damaged: " + complaint);
  }
  return loaded;
}

void set_aside_newer(Communicator& comm, const std::string& root,
                     const LoadedCheckpoint& checkpoint) {
  on_rank_0(comm, [&] {
    for (const CheckpointDirectory& other : list_checkpoints(root)) {
      std::error_code ignored;
      if (other.step < checkpoint.step || fs::equivalent(other.path, checkpoint.path, ignored)) {
        continue;
      }
      rename_durably(other.path, other.path + ".superseded-" + utc_stamp());
      spdlog::warn("{} is set aside as *.superseded-*: the run goes on from {}", other.path,
                   checkpoint.path);
    }
    return std::string();
  });
}

}  // namespace espalier
