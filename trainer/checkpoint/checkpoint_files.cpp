#include "trainer/checkpoint/checkpoint_files.h"

#include <algorithm>
#include <filesystem>
#include <regex>

#include <torch/version.h>
#include <nlohmann/json.hpp>

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormat = 1;

bool is_plain_name(const std::string& name) {
  static const std::regex pattern("[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}");
  return std::regex_match(name, pattern);
}

std::string dump(const json& document) { return document.dump(2) + "\n"; }

// Out of sight first, so that a removal cut short leaves no half checkpoint under a good name.
void remove_checkpoint(const std::string& path) {
  const std::string doomed = path + ".tmp-removed";
  rename_durably(path, doomed);
  fs::remove_all(doomed);
}

}  // namespace

std::string checkpoint_name(int64_t step) {
  std::string digits = std::to_string(step);
  return "step-" + std::string(digits.size() < 10 ? 10 - digits.size() : 0, '0') + digits;
}

std::vector<CheckpointDirectory> list_checkpoints(const std::string& root) {
  static const std::regex pattern("step-([0-9]{10})");
  std::vector<CheckpointDirectory> found;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(root, missing)) {
    std::smatch match;
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && std::regex_match(name, match, pattern)) {
      found.push_back({std::stoll(match[1].str()), entry.path().string()});
    }
  }
  std::sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.step < b.step; });
  return found;
}

std::string manifest_text(const Manifest& manifest) {
  json content = {{"format", kFormat},
                  {"step", manifest.step},
                  {"generation", manifest.generation},
                  {"world_size", manifest.world_size},
                  {"torch", TORCH_VERSION},
                  {"files", json::object()}};
  for (const auto& [name, digest] : manifest.files) {
    content["files"][name] = {{"bytes", digest.bytes}, {"xxh3_128", digest.xxh3_128}};
  }
  const std::string digest = digest_text(dump(content));
  return dump({{"content", std::move(content)}, {"xxh3_128", digest}});
}

Manifest parse_manifest(const std::string& text, const std::string& path) {
  try {
    const json document = json::parse(text);
    const json& content = document.at("content");
    // The writer's own spelling is the only one accepted: then every flipped bit shows.
    if (dump(document) != text || digest_text(dump(content)) != document.at("xxh3_128")) {
      throw StorageError(path + ": its digest does not match");
    }
    if (content.at("format") != kFormat) {
      throw StorageError(path + ": format " + content.at("format").dump() +
                         ", this program reads " + std::to_string(kFormat));
    }
    Manifest manifest{content.at("step"), content.at("generation"), content.at("world_size"), {}};
    for (const auto& [name, entry] : content.at("files").items()) {
      if (!is_plain_name(name)) throw StorageError(path + ": bad file name " + json(name).dump());
      manifest.files[name] = {entry.at("bytes"), entry.at("xxh3_128")};
    }
    return manifest;
  } catch (const json::exception& error) {
    throw StorageError(path + ": not a manifest: " + error.what());
  }
}

std::string find_damage(const std::string& path) {
  try {
    const std::string manifest_path = path + "/manifest.json";
    const Manifest manifest = parse_manifest(read_text_file(manifest_path), manifest_path);
    if (checkpoint_name(manifest.step) != fs::path(path).filename()) {
      return manifest_path + ": is of step " + std::to_string(manifest.step);
    }
    if (!manifest.files.contains("state.json")) return manifest_path + ": lists no state.json";
    for (const auto& [name, expected] : manifest.files) {
      const std::string file = path + "/" + name;
      const FileDigest found = digest_file(file);
      if (found.bytes != expected.bytes) {
        return file + ": has " + std::to_string(found.bytes) + " bytes, the manifest says " +
               std::to_string(expected.bytes);
      }
      if (found != expected) return file + ": its digest differs from the manifest's";
    }
    return "";
  } catch (const StorageError& error) {
    return error.what();
  }
}

std::string quarantine(const std::string& path) {
  std::string target = path + ".corrupt-" + utc_stamp();
  for (int i = 2; fs::exists(target); ++i) {
    target = path + ".corrupt-" + utc_stamp() + "-" + std::to_string(i);
  }
  rename_durably(path, target);
  return target;
}

void mark_best(const std::string& root, const std::string& checkpoint) {
  const fs::path link = fs::path(root) / "best", temporary = fs::path(root) / "best.tmp";
  std::error_code missing;
  fs::remove(temporary, missing);
  fs::create_directory_symlink(fs::path(checkpoint).filename(), temporary);
  rename_durably(temporary.string(), link.string());
}

std::string best_checkpoint(const std::string& root) {
  std::error_code missing;
  return fs::read_symlink(fs::path(root) / "best", missing).filename().string();
}

std::vector<json> apply_retention(const std::string& root, int64_t keep,
                                  std::set<std::string>& verified) {
  std::vector<json> events;
  std::vector<CheckpointDirectory> all = list_checkpoints(root);
  const std::string best = best_checkpoint(root);
  int64_t good = 0;
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    if (good >= keep && fs::path(it->path).filename() == best) continue;
    if (good >= keep) {
      remove_checkpoint(it->path);
      verified.erase(it->path);
      events.push_back({{"event", "checkpoint_removed"}, {"step", it->step}});
      continue;
    }
    const std::string damage = verified.contains(it->path) ? "" : find_damage(it->path);
    if (damage.empty()) {
      verified.insert(it->path);
      ++good;
    } else {
      const std::string moved = quarantine(it->path);
      events.push_back({{"event", "checkpoint_quarantined"},
                        {"step", it->step},
                        {"reason", damage},
                        {"moved_to", moved}});
    }
  }
  return events;
}

void remove_temporaries(const std::string& root) {
  std::error_code missing;
  std::vector<fs::path> doomed;
  for (const auto& entry : fs::directory_iterator(root, missing)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.find(".tmp-") != std::string::npos) {
      doomed.push_back(entry.path());
    }
  }
  for (const fs::path& path : doomed) fs::remove_all(path);
}

}  // namespace espalier
