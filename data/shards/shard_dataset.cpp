#include "data/shards/shard_dataset.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

#include <xxhash.h>
#include <nlohmann/json.hpp>

#include "data/digest_text.h"
#include "data/errors.h"
#include "data/images/image_codec.h"
#include "data/sample_json.h"

namespace espalier {
namespace {

constexpr size_t kMaxMessages = 100;
constexpr int64_t kMaxFieldBytes = int64_t{1} << 20;
constexpr int64_t kMaxImageBytes = int64_t{256} << 20;

struct NameParts {
  std::string key;
  std::string extension;  // lower case
};

// WebDataset rule: the key ends at the first dot of the file name, folders belong to the key.
NameParts split_name(const std::string& name) {
  const size_t slash = name.rfind('/');
  const size_t dot = name.find('.', slash == std::string::npos ? 0 : slash + 1);
  if (dot == std::string::npos) return {name, ""};
  std::string extension = name.substr(dot + 1);
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return {name.substr(0, dot), extension};
}

bool is_image(const std::string& extension) {
  return extension == "png" || extension == "jpg" || extension == "jpeg" || extension == "webp";
}

nlohmann::json parse_object(const std::vector<uint8_t>& bytes, const std::string& name) {
  nlohmann::json fields;
  try {
    fields = nlohmann::json::parse(bytes);
  } catch (const nlohmann::json::parse_error& error) {
    throw DataError(name + ": not JSON: " + error.what());
  }
  if (!fields.is_object()) throw DataError(name + ": the JSON is not an object");
  return fields;
}

// One half of a sample, or both, while a shard is read.
struct Pair {
  std::string key;
  std::optional<TarMember> image;
  std::optional<TarMember> fields;
};

}  // namespace

ShardDataset::ShardDataset(const std::vector<std::string>& paths, ShardDatasetOptions options)
    : options_(std::move(options)) {
  const std::vector<std::string> expanded = expand_shard_paths(paths);
  if (expanded.empty()) throw DataError("no shards were given: the list of paths is empty");
  shards_.reserve(expanded.size());
  for (const std::string& path : expanded) {
    shards_.emplace_back(path);
    add_shard(static_cast<int>(shards_.size()) - 1);
  }
  if (entries_.empty()) {
    const std::string bad = bad_.count == 0 ? ""
                                            : "; " + std::to_string(bad_.count) +
                                                  " bad, the first: " + bad_.messages.front();
    throw DataError("no samples in " + expanded.front() +
                    (expanded.size() == 1
                         ? ""
                         : " and " + std::to_string(expanded.size() - 1) + " more shards") +
                    bad + ". A sample is a pair KEY.png, KEY.jpg or KEY.webp, and KEY.json.");
  }
}

void ShardDataset::add_shard(int shard) {
  const ReadOnlyFile& file = shards_[shard];
  std::vector<Pair> pairs;
  std::unordered_map<std::string, size_t> pair_of;
  for (TarMember& member : index_tar(file)) {
    const NameParts parts = split_name(member.name);
    if (!is_image(parts.extension) && parts.extension != "json") continue;
    const auto [found, is_new] = pair_of.try_emplace(parts.key, pairs.size());
    if (is_new) pairs.push_back({parts.key, {}, {}});
    Pair& pair = pairs[found->second];
    auto& half = parts.extension == "json" ? pair.fields : pair.image;
    if (half) {
      reject(file.path() + ": member " + member.name + " repeats the sample " + parts.key);
    } else {
      half = std::move(member);
    }
  }

  for (Pair& pair : pairs) {
    if (!pair.image || !pair.fields) {
      const TarMember& present = pair.image ? *pair.image : *pair.fields;
      reject(file.path() + ": member " + present.name + " has no " +
             (pair.image ? "JSON" : "PNG or JPEG") + " beside it");
      continue;
    }
    Entry entry{std::move(pair.key), shard, std::move(*pair.image), std::move(*pair.fields)};
    try {
      check(entry);
    } catch (const DataError& error) {
      reject(error.what());
      continue;
    }
    entries_.push_back(std::move(entry));
  }
}

void ShardDataset::check(const Entry& entry) const {
  read_fields(entry);
  const std::string name = name_of(entry, entry.image);
  if (entry.image.size > kMaxImageBytes) throw DataError(name + ": image file above 256 MiB");
  const auto bytes = shards_[entry.shard].read(entry.image.offset, entry.image.size);
  if (options_.decode_on_open) {
    decode_image(bytes, name);
  } else {
    check_image_header(bytes, name);
  }
}

void ShardDataset::reject(const std::string& message) {
  if (!options_.skip_bad_samples) {
    throw DataError(message +
                    ". Repair the shard, or allow bad samples to be skipped "
                    "(data.on_bad_sample = \"skip\").");
  }
  ++bad_.count;
  if (bad_.messages.size() < kMaxMessages) bad_.messages.push_back(message);
}

std::string ShardDataset::name_of(const Entry& entry, const TarMember& member) const {
  return shards_[entry.shard].path() + ": member " + member.name + " at byte " +
         std::to_string(member.offset);
}

Sample ShardDataset::read_fields(const Entry& entry) const {
  const std::string name = name_of(entry, entry.fields);
  if (entry.fields.size > kMaxFieldBytes) throw DataError(name + ": JSON above 1 MiB");
  const nlohmann::json fields =
      parse_object(shards_[entry.shard].read(entry.fields.offset, entry.fields.size), name);
  Sample sample = sample_of(fields, name);
  sample.key = entry.key;
  require_fields(sample, options_.required_fields, name);
  return sample;
}

Sample ShardDataset::describe(int64_t index) const {
  return read_fields(entries_.at(static_cast<size_t>(index)));
}

Sample ShardDataset::get(int64_t index) const {
  const Entry& entry = entries_.at(static_cast<size_t>(index));
  Sample sample = read_fields(entry);
  const auto bytes = shards_[entry.shard].read(entry.image.offset, entry.image.size);
  sample.image = decode_image(bytes, name_of(entry, entry.image));
  if (options_.image_size > 0) sample.image = fit_square(sample.image, options_.image_size);
  return sample;
}

std::vector<std::string> ShardDataset::paths() const {
  std::vector<std::string> paths;
  for (const ReadOnlyFile& shard : shards_) paths.push_back(shard.path());
  return paths;
}

int64_t ShardDataset::size_bytes() const {
  int64_t bytes = 0;
  for (const ReadOnlyFile& shard : shards_) bytes += shard.size();
  return bytes;
}

std::string ShardDataset::fingerprint() const {
  constexpr int64_t kPiece = int64_t{1} << 20;
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<uint8_t> buffer(kPiece);
  for (const ReadOnlyFile& shard : shards_) {
    for (int64_t offset = 0; offset < shard.size(); offset += kPiece) {
      const int64_t bytes = std::min(kPiece, shard.size() - offset);
      shard.read(offset, buffer.data(), bytes);
      XXH3_128bits_update(state.get(), buffer.data(), static_cast<size_t>(bytes));
    }
  }
  return digest_text(XXH3_128bits_digest(state.get()));
}

}  // namespace espalier
