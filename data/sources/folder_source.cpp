// Loose files: KEY.png with KEY.txt or KEY.json, at any depth.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "data/errors.h"
#include "data/sample_json.h"
#include "data/sources/source_builders.h"

namespace espalier {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Parts {
  std::optional<fs::path> picture, json, txt;
};

std::string read_text(const fs::path& path) {
  std::error_code failed;
  if (fs::file_size(path, failed) > kMaxTextBytes && !failed) {
    throw DataError(path.string() + ": text above 1 MiB");
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || failed) throw DataError(path.string() + ": cannot be read");
  return text.str();
}

// By the path without its extension, in the order of names.
std::map<std::string, Parts> samples_of(const fs::path& root, SourceIndexWriter& index) {
  std::map<std::string, Parts> samples;
  IgnoredFiles ignored;
  for (const auto& found :
       fs::recursive_directory_iterator(root, fs::directory_options::follow_directory_symlink)) {
    const fs::path& path = found.path();
    if (!found.is_regular_file() || path.filename().string().starts_with(".")) continue;
    std::string extension = lower_case(path.extension().string());
    if (!extension.empty()) extension.erase(0, 1);
    const bool is_picture = is_picture_name(extension);
    if (!is_picture && extension != "json" && extension != "txt") {
      ignored.add(extension);
      continue;
    }
    Parts& parts = samples[(path.parent_path() / path.stem()).lexically_relative(root).string()];
    auto& part = is_picture ? parts.picture : extension == "json" ? parts.json : parts.txt;
    if (part) {
      index.reject(path.string() + ": there is " + part->filename().string() +
                   " of the same name beside it");
    } else {
      part = path;
    }
  }
  ignored.note(index);
  return samples;
}

void add(const std::string& key, const Parts& parts, const fs::path& root,
         const BuildOptions& options, SourceIndexWriter& index) {
  json fields = json::object();
  const std::string name = (parts.json ? *parts.json : *parts.picture).string();
  if (parts.json) {
    const std::string text = read_text(*parts.json);
    fields = parse_object({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, name);
  }
  if (parts.txt && !fields.contains("caption"))
    fields["caption"] = caption_of(read_text(*parts.txt));
  const fs::path parent = fs::path(key).parent_path();
  if (!parent.empty() && !fields.contains("folder")) fields["folder"] = parent.filename().string();
  const ReadOnlyFile picture(parts.picture->string());
  const uint64_t digest =
      check_picture(picture, 0, picture.size(), options, parts.picture->string());
  const PicturePlace place{.called = parts.picture->filename().string(),
                           .file = parts.picture->lexically_relative(root).string(),
                           .digest = digest};
  add_sample(index, key, fields, {place}, name);
}

}  // namespace

void index_folder(const std::string& path, const BuildOptions& options, SourceIndexWriter& index) {
  int64_t texts_alone = 0;
  std::string first_alone;
  for (const auto& [key, parts] : samples_of(path, index)) {
    if (!parts.picture) {
      // A README, a licence: no sample of which a half is missing.
      if (texts_alone++ == 0) first_alone = (parts.json ? *parts.json : *parts.txt).string();
      continue;
    }
    try {
      add(key, parts, path, options, index);
    } catch (const DataError& error) {
      index.reject(error.what());
    }
    if (options.on_samples && index.size() % 1000 == 0) options.on_samples(index.size());
  }
  if (texts_alone > 0) {
    index.note(std::to_string(texts_alone) +
               " text files without a picture are not read, such as " + first_alone);
  }
}

}  // namespace espalier
