#include "data/sources/source_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include <xxhash.h>

#include "data/digest_text.h"
#include "data/errors.h"

namespace espalier {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int64_t kWorthKeeping = int64_t{16} << 20;  // bytes of a source

enum class Form { kTar, kCompressedTar, kFolder, kTable };

bool ends_with_any(const std::string& text, const std::vector<std::string>& endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](const std::string& ending) { return text.ends_with(ending); });
}

Form form_of(const std::string& path) {
  if (path.find("://") != std::string::npos) {
    throw DataError(path + " is an address; data are read from disk, so fetch them first");
  }
  if (fs::is_directory(path)) return Form::kFolder;
  if (!fs::exists(path)) {
    throw DataError(path +
                    ": there is no such file or folder. Check the path and the working "
                    "directory (" +
                    fs::current_path().string() + ").");
  }
  const std::string name = lower_case(path);
  if (name.ends_with(".tar")) return Form::kTar;
  if (ends_with_any(name, {".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"})) {
    return Form::kCompressedTar;
  }
  if (ends_with_any(name, {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"})) {
    return Form::kTable;
  }
  if (ends_with_any(name, {".png", ".jpg", ".jpeg", ".webp"})) {
    throw DataError(path + " is one picture; name the folder it lies in, a tar, or a table");
  }
  throw DataError(path +
                  ": not a form of data that is read: .tar, .tar.gz, a folder, .csv, .tsv, "
                  ".jsonl, .json, .parquet");
}

json stat_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw DataError(path + ": cannot be read");
  return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

// Names, sizes and times of all files, in no order.
json folder_state(const std::string& path, int64_t* bytes) {
  uint64_t sum = 0;
  int64_t files = 0;
  for (const auto& found :
       fs::recursive_directory_iterator(path, fs::directory_options::follow_directory_symlink)) {
    if (!found.is_regular_file()) continue;
    const std::string line = found.path().string() + stat_of(found.path()).dump();
    sum += XXH3_64bits(line.data(), line.size());
    *bytes += static_cast<int64_t>(found.file_size());
    ++files;
  }
  return {files, sum};
}

struct Source {
  std::string path;
  Form form = Form::kTar;
  int64_t bytes = 0;
  json identity;
};

Source look_at(const std::string& path, const BuildOptions& options) {
  Source source{path, form_of(path), 0, {}};
  json state;
  if (source.form == Form::kFolder) {
    state = folder_state(path, &source.bytes);
  } else {
    state = stat_of(path);
    source.bytes = state.at(0);
  }
  source.identity = {{"path", fs::absolute(path).lexically_normal().string()},
                     {"state", state},
                     {"decode", options.decode},
                     {"image_root", options.image_root},
                     {"image_field", options.image_field}};
  return source;
}

std::string default_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return std::string(cache) + "/espalier";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return std::string(home) + "/.cache/espalier";
  }
  return (fs::temp_directory_path() / "espalier").string();
}

std::string kept_path(const Source& source, const std::string& folder) {
  // Not the size and time: what is of an older state of the source is replaced.
  const json key = {source.identity.at("path"), source.identity.at("decode"),
                    source.identity.at("image_root"), source.identity.at("image_field")};
  const std::string text = key.dump();
  return (folder.empty() ? default_folder() : folder) + "/" +
         digest_text(XXH3_128bits(text.data(), text.size())) + ".index";
}

void build(const Source& source, const BuildOptions& options, SourceIndexWriter& index) {
  switch (source.form) {
    case Form::kTar:
      return index_tar_file(source.path, options, index);
    case Form::kCompressedTar:
      return index_compressed_tar(source.path, options, index);
    case Form::kFolder:
      return index_folder(source.path, options, index);
    case Form::kTable:
      return index_table(source.path, options, index);
  }
}

// Held while a source is looked through. Waits for its turn, or with `wait` false is not held.
class BuildLock {
 public:
  BuildLock(const std::string& path, bool wait)
      : file_(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644)) {
    if (file_ < 0) {
      throw DataError("cannot write in " + fs::path(path).parent_path().string() +
                      ", where indices of data are kept; name another folder with "
                      "data.NAME.cache");
    }
    is_held_ = ::flock(file_, wait ? LOCK_EX : LOCK_EX | LOCK_NB) == 0;
  }
  ~BuildLock() { ::close(file_); }
  BuildLock(const BuildLock&) = delete;
  BuildLock& operator=(const BuildLock&) = delete;
  bool is_held() const { return is_held_; }

 private:
  int file_;
  bool is_held_ = false;
};

// Whether an index has to lie in the cache: it pays, or its pictures have to be somewhere.
bool is_kept(const Source& source) {
  return source.bytes >= kWorthKeeping || source.form == Form::kCompressedTar ||
         source.path.ends_with(".parquet");
}

// Empty when another process is at it and `wait` is false.
std::optional<SourceIndex> open_kept(const Source& source, const BuildOptions& options,
                                     const std::string& folder, bool wait) {
  const std::string path = kept_path(source, folder);
  if (auto found = SourceIndex::open(path, source.identity)) return found;
  std::error_code failed;
  fs::create_directories(fs::path(path).parent_path(), failed);
  const BuildLock lock(path + ".lock", wait);
  if (!lock.is_held()) return {};
  if (auto found = SourceIndex::open(path, source.identity)) return found;
  BuildOptions mine = options;
  mine.unpacked = fs::path(path).replace_extension(".tar").string();
  SourceIndexWriter index;
  build(source, mine, index);
  index.write(path, source.identity);
  return SourceIndex::open(path, source.identity);
}

}  // namespace

std::string kept_index_path(const std::string& source, const BuildOptions& options,
                            const std::string& folder) {
  return kept_path(look_at(source, options), folder);
}

json source_identity(const std::string& source, const BuildOptions& options) {
  return look_at(source, options).identity;
}

std::vector<SourceIndex> open_sources(const std::vector<std::string>& paths,
                                      const BuildOptions& options, const std::string& folder) {
  std::vector<Source> sources;
  for (const std::string& path : paths) sources.push_back(look_at(path, options));
  std::vector<std::optional<SourceIndex>> found(sources.size());
  const auto first = static_cast<size_t>(::getpid()) % std::max<size_t>(sources.size(), 1);
  for (const bool wait : {false, true}) {
    for (size_t k = 0; k < sources.size(); ++k) {
      const size_t i = (first + k) % sources.size();
      if (found[i]) continue;
      if (is_kept(sources[i])) {
        found[i] = open_kept(sources[i], options, folder, wait);
      } else {
        SourceIndexWriter index;
        build(sources[i], options, index);
        found[i] = index.in_memory(sources[i].identity);
      }
    }
  }
  std::vector<SourceIndex> indices;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!found[i]) throw DataError(paths[i] + ": its index cannot be read back");
    indices.push_back(std::move(*found[i]));
  }
  return indices;
}

}  // namespace espalier
