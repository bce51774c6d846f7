#include "data/sources/source_index.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include <xxhash.h>

#include "data/digest_text.h"
#include "data/errors.h"

namespace espalier {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr char kMagic[8] = {'E', 'S', 'P', 'I', 'N', 'D', 'X', '2'};

struct Header {
  char magic[8];
  uint64_t count, entries_at, rest_at, rest_size;
  uint64_t rest_digest;  // XXH3-64 of the JSON object
  uint64_t reserved[2];
};
static_assert(sizeof(Header) == 64);

// A file mapped into memory for as long as somebody holds it.
std::pair<std::shared_ptr<const void>, std::span<const uint8_t>> map_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return {};
  std::error_code none;
  const auto size = fs::is_regular_file(path, none) ? fs::file_size(path, none) : 0;
  void* at = size > 0 ? ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
  ::close(file);
  if (at == MAP_FAILED) return {};
  const std::shared_ptr<const void> owner(
      at, [size](const void* mapped) { ::munmap(const_cast<void*>(mapped), size); });
  return {owner, {static_cast<const uint8_t*>(at), size}};
}

int64_t size_of(const std::string& path) {
  std::error_code failed;
  const auto size = fs::file_size(path, failed);
  return failed ? -1 : static_cast<int64_t>(size);
}

}  // namespace

std::optional<SourceIndex> SourceIndex::open(const std::string& path, const json& identity) {
  SourceIndex index;
  std::tie(index.owner_, index.bytes_) = map_file(path);
  if (!index.owner_ || !index.read() || index.identity_ != identity) return {};
  return index;
}

SourceIndex::SourceIndex(std::vector<uint8_t> bytes) {
  const auto kept = std::make_shared<const std::vector<uint8_t>>(std::move(bytes));
  bytes_ = *kept;
  owner_ = kept;
  if (!read()) throw std::logic_error("an index that was just made cannot be read");
}

bool SourceIndex::read() {
  Header header;
  if (bytes_.size() < sizeof(header)) return false;
  std::memcpy(&header, bytes_.data(), sizeof(header));
  const uint64_t size = bytes_.size();
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || header.rest_at > size ||
      header.rest_size != size - header.rest_at || header.entries_at > header.rest_at ||
      header.count > (header.rest_at - header.entries_at) / sizeof(IndexEntry)) {
    return false;
  }
  const auto rest = bytes_.subspan(header.rest_at, header.rest_size);
  if (XXH3_64bits(rest.data(), rest.size()) != header.rest_digest) return false;
  const json object = json::parse(rest.begin(), rest.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return false;
  count_ = static_cast<int64_t>(header.count);
  pictures_ = object.at("pictures");
  entries_at_ = static_cast<int64_t>(header.entries_at);
  identity_ = object.at("identity");
  container_ = object.at("container");
  digest_ = object.at("digest");
  notes_ = object.at("notes").get<std::vector<std::string>>();
  bad_ = {object.at("bad"), object.at("bad_messages").get<std::vector<std::string>>()};
  for (const json& set : object.at("field_sets")) {
    field_sets_.push_back({set.at("fields"), set.at("count"), set.at("first")});
  }
  return container_.empty() || size_of(container_) == object.at("container_size");
}

IndexEntry SourceIndex::entry(int64_t i) const {
  if (i < 0 || i >= count_) throw std::out_of_range("SourceIndex::entry");
  IndexEntry entry;
  std::memcpy(&entry, bytes_.data() + entries_at_ + i * static_cast<int64_t>(sizeof(entry)),
              sizeof(entry));
  return entry;
}

std::string_view SourceIndex::text(const IndexEntry& entry) const {
  const auto begin = static_cast<uint64_t>(entry.text_offset);
  if (begin > static_cast<uint64_t>(entries_at_) ||
      entry.text_size > static_cast<uint64_t>(entries_at_) - begin) {
    throw DataError("the index of " + identity_.value("path", std::string("a source")) +
                    " is damaged; remove the data cache (data.NAME.cache), it is made again");
  }
  return {reinterpret_cast<const char*>(bytes_.data()) + begin, entry.text_size};
}

struct SourceIndexWriter::Parts {
  std::string texts;
  std::vector<IndexEntry> entries;
  int64_t pictures = 0;
  std::map<std::vector<std::string>, uint32_t> set_of;
  std::vector<FieldSet> sets;
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> digest{XXH3_createState(),
                                                                         XXH3_freeState};
};

SourceIndexWriter::SourceIndexWriter() : parts_(std::make_unique<Parts>()) {
  XXH3_128bits_reset(parts_->digest.get());
}

SourceIndexWriter::~SourceIndexWriter() = default;

int64_t SourceIndexWriter::size() const { return std::ssize(parts_->entries); }

void SourceIndexWriter::add(const json& text, std::vector<std::string> said, int64_t image_offset,
                            int64_t image_size, uint64_t image_digest) {
  std::sort(said.begin(), said.end());
  const auto [found, is_new] =
      parts_->set_of.try_emplace(said, static_cast<uint32_t>(parts_->sets.size()));
  if (is_new) parts_->sets.push_back({std::move(said), 0, size()});
  ++parts_->sets[found->second].count;
  parts_->pictures += 1 + std::ssize(text.value("__further__", json::array()));
  const std::string line = text.dump(-1, ' ', false, json::error_handler_t::replace);
  parts_->entries.push_back(
      {image_offset, static_cast<int64_t>(sizeof(Header) + parts_->texts.size()),
       static_cast<uint32_t>(image_size), static_cast<uint32_t>(line.size()), found->second, 0});
  parts_->texts += line;
  XXH3_128bits_update(parts_->digest.get(), line.data(), line.size());
  XXH3_128bits_update(parts_->digest.get(), &image_digest, sizeof(image_digest));
}

void SourceIndexWriter::finish(const json& identity,
                               const std::function<void(std::span<const char>)>& put) {
  json sets = json::array();
  for (const FieldSet& set : parts_->sets) {
    sets.push_back({{"fields", set.fields}, {"count", set.count}, {"first", set.first}});
  }
  const json object = {{"identity", identity},
                       {"container", container_},
                       {"container_size", container_.empty() ? -1 : size_of(container_)},
                       {"digest", digest_text(XXH3_128bits_digest(parts_->digest.get()))},
                       {"pictures", parts_->pictures},
                       {"notes", notes_},
                       {"bad", bad_.count},
                       {"bad_messages", bad_.messages},
                       {"field_sets", sets}};
  const std::string rest = object.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string& texts = parts_->texts;
  texts.resize((texts.size() + 7) / 8 * 8);  // entries are aligned
  const size_t entry_bytes = parts_->entries.size() * sizeof(IndexEntry);
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.count = parts_->entries.size();
  header.entries_at = sizeof(Header) + texts.size();
  header.rest_at = header.entries_at + entry_bytes;
  header.rest_size = rest.size();
  header.rest_digest = XXH3_64bits(rest.data(), rest.size());
  put({reinterpret_cast<const char*>(&header), sizeof(header)});
  put(texts);
  put({reinterpret_cast<const char*>(parts_->entries.data()), entry_bytes});
  put(rest);
}

SourceIndex SourceIndexWriter::in_memory(const json& identity) {
  std::vector<uint8_t> bytes;
  finish(identity, [&](auto part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
  return SourceIndex(std::move(bytes));
}

void SourceIndexWriter::write(const std::string& path, const json& identity) {
  const std::string temporary = path + ".tmp-" + std::to_string(::getpid());
  std::ofstream file(temporary, std::ios::binary);
  size_t size = 0;
  finish(identity, [&](auto part) {
    file.write(part.data(), std::ssize(part));
    size += part.size();
  });
  file.close();
  std::error_code failed;
  if (file) fs::rename(temporary, path, failed);
  if (!file || failed) {
    fs::remove(temporary, failed);
    throw DataError("cannot write " + path + " (" + std::to_string(size >> 20) +
                    " MiB); free some disk or choose another folder with data.NAME.cache");
  }
}

}  // namespace espalier
