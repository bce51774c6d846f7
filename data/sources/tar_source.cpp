// WebDataset tars, plain and compressed.
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

#include <archive.h>
#include <archive_entry.h>

#include "data/errors.h"
#include "data/sample_json.h"
#include "data/shards/tar_index.h"
#include "data/shards/tar_writer.h"
#include "data/sources/source_builders.h"

namespace espalier {
namespace {

using nlohmann::json;

struct NameParts {
  std::string key;
  std::string which;      // "0" of KEY.0.png: of several pictures; mostly empty
  std::string extension;  // lower case
};

// WebDataset rule: the key ends at the first dot of the file name, folders belong to the key.
NameParts split_name(const std::string& name) {
  const size_t slash = name.rfind('/');
  const size_t dot = name.find('.', slash == std::string::npos ? 0 : slash + 1);
  if (dot == std::string::npos) return {name, "", ""};
  const std::string rest = name.substr(dot + 1);
  const size_t last = rest.rfind('.');
  const std::string extension =
      lower_case(last == std::string::npos ? rest : rest.substr(last + 1));
  if (last == std::string::npos || !is_picture_name(extension)) {
    return {name.substr(0, dot), "", lower_case(rest)};
  }
  return {name.substr(0, dot), rest.substr(0, last), extension};
}

// "2" comes before "10".
struct ByNumber {
  bool operator()(const std::string& a, const std::string& b) const {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  }
};

// The members of one sample.
struct Parts {
  std::string key;
  std::map<std::string, TarMember, ByNumber> pictures;
  std::optional<TarMember> json, txt;
};

// Collects members into samples, in the order of the first member of each.
std::vector<Parts> samples_of(const ReadOnlyFile& file, SourceIndexWriter& index) {
  std::vector<Parts> samples;
  std::unordered_map<std::string, size_t> sample_of_key;
  IgnoredFiles ignored;
  for (TarMember& member : index_tar(file)) {
    const NameParts name = split_name(member.name);
    const bool is_picture = is_picture_name(name.extension);
    if (!is_picture && name.extension != "json" && name.extension != "txt") {
      ignored.add(name.extension);
      continue;
    }
    const auto [found, is_new] = sample_of_key.try_emplace(name.key, samples.size());
    if (is_new) samples.push_back({name.key, {}, {}, {}});
    Parts& parts = samples[found->second];
    auto& text = name.extension == "json" ? parts.json : parts.txt;
    if (is_picture ? parts.pictures.contains(name.which) : text.has_value()) {
      index.reject(file.path() + ": member " + member.name + " repeats the sample " + name.key);
    } else if (is_picture) {
      parts.pictures.emplace(name.which, std::move(member));
    } else {
      text = std::move(member);
    }
  }
  ignored.note(index);
  return samples;
}

class TarReader {
 public:
  TarReader(const ReadOnlyFile& file, const BuildOptions& options)
      : file_(file), options_(options) {}

  void add(const Parts& parts, SourceIndexWriter& index) const {
    if (parts.pictures.empty()) {
      throw DataError(file_.path() + ": member " + (parts.json ? parts.json : parts.txt)->name +
                      " has no picture (PNG, JPEG or WebP) beside it");
    }
    json fields = json::object();
    if (parts.json) fields = parse_object(bytes_of(*parts.json), name_of(*parts.json));
    if (parts.txt && !fields.contains("caption")) {
      const std::vector<uint8_t> text = bytes_of(*parts.txt);
      fields["caption"] = caption_of({text.begin(), text.end()});
    }
    std::vector<PicturePlace> pictures;
    for (const auto& [which, picture] : parts.pictures) {
      pictures.push_back({.called = picture.name.substr(picture.name.rfind('/') + 1),
                          .offset = picture.offset,
                          .size = picture.size,
                          .digest = check_picture(file_, picture.offset, picture.size, options_,
                                                  name_of(picture))});
    }
    add_sample(index, parts.key, fields, pictures,
               name_of(parts.json ? *parts.json : parts.pictures.begin()->second));
  }

 private:
  std::string name_of(const TarMember& member) const {
    return file_.path() + ": member " + member.name + " at byte " + std::to_string(member.offset);
  }
  std::vector<uint8_t> bytes_of(const TarMember& member) const {
    if (member.size > kMaxTextBytes) throw DataError(name_of(member) + ": text above 1 MiB");
    return file_.read(member.offset, member.size);
  }

  const ReadOnlyFile& file_;
  const BuildOptions& options_;
};

struct CloseArchive {
  void operator()(archive* a) const { archive_free(a); }
};
using Archive = std::unique_ptr<archive, CloseArchive>;

[[noreturn]] void fail(const std::string& path, archive* a) {
  const char* const reason = archive_error_string(a);
  throw DataError(path + ": damaged or cut short: " + (reason == nullptr ? "unknown" : reason));
}

// Regular members, one at a time in memory.
void copy_members(const std::string& path, archive* from, TarWriter& to) {
  std::vector<uint8_t> bytes;
  archive_entry* entry = nullptr;
  int status = ARCHIVE_OK;
  while ((status = archive_read_next_header(from, &entry)) == ARCHIVE_OK) {
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    const std::string name = archive_entry_pathname(entry);
    const int64_t size = archive_entry_size(entry);
    if (size > kMaxPictureBytes) throw DataError(path + ": member " + name + " is above 256 MiB");
    bytes.resize(static_cast<size_t>(size));
    if (archive_read_data(from, bytes.data(), bytes.size()) != size) fail(path, from);
    to.add(name, bytes);
  }
  if (status != ARCHIVE_EOF) fail(path, from);
}

}  // namespace

void index_tar_file(const std::string& path, const BuildOptions& options,
                    SourceIndexWriter& index) {
  const ReadOnlyFile file(path);
  const TarReader reader(file, options);
  for (const Parts& parts : samples_of(file, index)) {
    try {
      reader.add(parts, index);
    } catch (const DataError& error) {
      index.reject(error.what());
    }
    if (options.on_samples && index.size() % 1000 == 0) options.on_samples(index.size());
  }
  index.set_container(path);
}

void index_compressed_tar(const std::string& path, const BuildOptions& options,
                          SourceIndexWriter& index) {
  const Archive from(archive_read_new());
  archive_read_support_filter_all(from.get());
  archive_read_support_format_tar(from.get());
  if (archive_read_open_filename(from.get(), path.c_str(), size_t{1} << 20) != ARCHIVE_OK) {
    fail(path, from.get());
  }
  TarWriter to(options.unpacked);
  copy_members(path, from.get(), to);
  to.finish();
  index_tar_file(options.unpacked, options, index);
}

}  // namespace espalier
