#include "trainer/export/export_folder.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/export/run_export.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

bool is_of_an_export(const std::string& name) {
  return name == "config.json" || name == "tokenizer.json" || name.ends_with(".model") ||
         name == "model.safetensors.index.json" || name.starts_with("backbone-") ||
         (name.starts_with("model") && name.ends_with(".safetensors"));
}

std::string run_of_export(const std::string& path) {
  if (!fs::is_regular_file(path + "/config.json")) return "";
  const auto config = nlohmann::json::parse(read_text_file(path + "/config.json"), nullptr,
                                            /*allow_exceptions=*/false);
  if (!config.is_object() || config.value("format", "") != kExportFormat) return "";
  return config.value("run", "");
}

// The old folder is then under the temporary name, and removed.
void swap_folders(const std::string& temporary, const std::string& path) {
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(temporary);
    return;
  }
  const std::string old = temporary + "-old";  // a file system that cannot exchange
  rename_durably(path, old);
  rename_durably(temporary, path);
  fs::remove_all(old);
}

// "a/b" of "a/b/", so that a name can be put behind it.
fs::path without_end_slash(const std::string& path) {
  const fs::path clean = fs::absolute(path).lexically_normal();
  return clean.has_filename() ? clean : clean.parent_path();
}

}  // namespace

void require_export_folder(const std::string& path, const std::string& run_name) {
  std::error_code missing;
  const auto status = fs::status(path, missing);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) throw ConfigError(path + " is a file; name a folder");
  if (fs::is_empty(path)) return;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (is_of_an_export(name)) continue;
    throw ConfigError(path + " is not empty, and " + name +
                      " in it is of no export; name another folder");
  }
  const std::string other = run_of_export(path);
  if (other == run_name) return;
  throw ConfigError(path + " is not empty, and holds " +
                    (other.empty() ? "no export" : "an export of another run (" + other + ")") +
                    "; name another folder, or remove it");
}

void replace_folder(const std::string& path, int64_t bytes,
                    const std::function<void(const std::string& temporary)>& write) {
  const fs::path target = without_end_slash(path);
  const std::string temporary = target.string() + ".tmp-" + std::to_string(::getpid());
  try {
    fs::create_directories(target.parent_path());
    fs::remove_all(temporary);
    fs::create_directory(temporary);
  } catch (const fs::filesystem_error& error) {
    throw ConfigError(path + " cannot be written: " + error.code().message() +
                      "; name another folder");
  }
  try {
    const auto free = static_cast<int64_t>(fs::space(temporary).available);
    if (free < bytes) {
      throw StorageError(path + ": an export of " + std::to_string(bytes) +
                         " bytes does not fit: the disk has " + std::to_string(free) + " free");
    }
    write(temporary);
    sync_directory(temporary);
    if (fs::exists(target)) {
      swap_folders(temporary, target.string());
      sync_directory(target.parent_path().string());
    } else {
      rename_durably(temporary, target.string());
    }
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
}

}  // namespace espalier
