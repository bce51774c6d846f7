#include "trainer/checkpoint/checkpoint_loader.h"

#include <spdlog/spdlog.h>

#include <filesystem>

#include "models/errors.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/host/collective_text.h"

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

// Collective. All ranks read; the first complaint of any rank, "" when there is none.
std::string read_on_all(Communicator& comm, const std::string& path, LoadedCheckpoint& loaded) {
  std::string complaint;
  const std::vector<std::string> texts = gather_text(comm, read_checkpoint(path, loaded));
  for (size_t rank = 0; rank < texts.size() && complaint.empty(); ++rank) {
    if (!texts[rank].empty()) complaint = "rank " + std::to_string(rank) + ": " + texts[rank];
  }
  return complaint;
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

std::optional<LoadedCheckpoint> load_newest_checkpoint(
    Communicator& comm, const std::string& root, const std::function<void(const json&)>& events) {
  std::string reasons;
  while (true) {
    const bool is_first = comm.rank() == 0;
    const std::string path = broadcast_text(comm, is_first ? newest_path(root) : "");
    if (path.empty()) break;
    LoadedCheckpoint loaded;
    const std::string complaint = read_on_all(comm, path, loaded);
    if (complaint.empty()) return loaded;
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

LoadedCheckpoint load_checkpoint_at(Communicator& comm, const std::string& path) {
  const std::string chosen = on_rank_0(comm, [&]() -> std::string {
    if (!fs::exists(path))
      throw ConfigError("cannot resume from " + path + ": there is no such checkpoint");
    if (fs::exists(path + "/manifest.json")) {
      return fs::path(path + "/").lexically_normal().parent_path().string();
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
  const std::string complaint = read_on_all(comm, chosen, loaded);
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
