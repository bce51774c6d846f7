#include "data/sources/source_builders.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include <xxhash.h>

#include "data/errors.h"
#include "data/images/image_codec.h"
#include "data/sample_json.h"
#include "data/shards/tar_index.h"

namespace espalier {
namespace {

using nlohmann::json;

// What check_image_header() may need of a picture: JPEG can have a long preamble.
constexpr int64_t kHeaderBytes = int64_t{64} << 10;

}  // namespace

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_picture_name(const std::string& extension) {
  return extension == "png" || extension == "jpg" || extension == "jpeg" || extension == "webp";
}

uint64_t check_picture(const ReadOnlyFile& file, int64_t offset, int64_t size,
                       const BuildOptions& options, const std::string& name) {
  if (size > kMaxPictureBytes) throw DataError(name + ": image file above 256 MiB");
  if (!options.decode && size > kHeaderBytes) {
    const std::vector<uint8_t> start = file.read(offset, kHeaderBytes);
    try {
      check_image_header(start, name);
      return XXH3_64bits_withSeed(start.data(), start.size(), static_cast<uint64_t>(size));
    } catch (const DataError&) {
      // Its header may be longer than that.
    }
  }
  return check_picture(file.read(offset, size), options, name);
}

uint64_t check_picture(std::span<const uint8_t> bytes, const BuildOptions& options,
                       const std::string& name) {
  if (options.decode) {
    decode_image(bytes, name);
  } else {
    check_image_header(bytes, name);
  }
  return XXH3_64bits(bytes.data(), bytes.size());
}

void add_sample(SourceIndexWriter& index, const std::string& key, const json& fields,
                const std::vector<PicturePlace>& pictures, const std::string& name) {
  std::vector<std::string> called;
  for (const PicturePlace& picture : pictures) called.push_back(picture.called);
  const Sample sample = sample_of(fields, name, called);
  const PicturePlace& first = pictures.front();
  uint64_t digest = first.digest;
  json text = {{"__key__", key}};
  if (!first.file.empty()) text["__image__"] = first.file;
  for (size_t i = 1; i < pictures.size(); ++i) {
    const PicturePlace& other = pictures[i];
    text["__further__"].push_back(other.file.empty() ? json{other.offset, other.size}
                                                     : json(other.file));
    digest = XXH3_64bits_withSeed(&other.digest, sizeof(other.digest), digest);
  }
  std::vector<std::string> said;
  for (const auto& [field, texts] : sample.fields) {
    if (texts.size() == 1) {
      text[field] = texts.front();
    } else {
      text[field] = texts;
    }
    if (!texts.front().empty()) said.push_back(field);
  }
  if (!sample.messages.empty()) text["messages"] = messages_json(sample.messages);
  for (const char* field : {"messages", "messages.picture"}) {
    if (says_something(sample, field)) said.emplace_back(field);
  }
  index.add(text, std::move(said), first.offset, first.file.empty() ? first.size : 0, digest);
}

void IgnoredFiles::note(SourceIndexWriter& index) const {
  for (const auto& [extension, count] : counts_) {
    index.note(std::to_string(count) + (count == 1 ? " file " : " files ") +
               (extension.empty() ? "without an extension" : "." + extension) +
               (count == 1 ? " is not read" : " are not read"));
  }
}

}  // namespace espalier
