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
                const PicturePlace& picture, const std::string& name) {
  const Sample sample = sample_of(fields, name);
  json text = {{"__key__", key}};
  if (!picture.file.empty()) text["__image__"] = picture.file;
  std::vector<std::string> said;
  for (const auto& [field, texts] : sample.fields) {
    if (texts.size() == 1) {
      text[field] = texts.front();
    } else {
      text[field] = texts;
    }
    if (!texts.front().empty()) said.push_back(field);
  }
  for (const Message& message : sample.messages) {
    text["messages"].push_back({{"role", message.role}, {"content", message.text}});
  }
  if (says_something(sample, "messages")) said.emplace_back("messages");
  index.add(text, std::move(said), picture.offset, picture.file.empty() ? picture.size : 0,
            picture.digest);
}

void IgnoredFiles::note(SourceIndexWriter& index) const {
  for (const auto& [extension, count] : counts_) {
    index.note(std::to_string(count) + (count == 1 ? " file " : " files ") +
               (extension.empty() ? "without an extension" : "." + extension) +
               (count == 1 ? " is not read" : " are not read"));
  }
}

}  // namespace espalier
