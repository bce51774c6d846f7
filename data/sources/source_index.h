#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/bad_samples.h"

namespace espalier {

// Where one sample lies. What is written about the picture is a JSON object in the index itself,
// with "__key__", and with "__image__" (a path) where the picture is a file of its own.
// "__further__" lists the sample's other pictures: a path, or offset and size in the container.
struct IndexEntry {
  int64_t image_offset = 0;  // bytes into the container
  int64_t text_offset = 0;   // bytes into the index
  uint32_t image_size = 0;   // bytes; 0: a file of its own
  uint32_t text_size = 0;
  uint32_t field_set = 0;  // which fields say something: index into field_sets()
  uint32_t reserved = 0;
};
static_assert(sizeof(IndexEntry) == 32);

// Samples of a source that have the same fields.
struct FieldSet {
  std::vector<std::string> fields;  // sorted; not empty in these samples
  int64_t count = 0;
  int64_t first = 0;  // the first of these samples
};

// What is known about the samples of one source (a tar, a folder, a table), found out once and
// kept: opening it costs the same for ten samples and ten million. Mapped into memory, read-only;
// any thread may read.
//
// The file: a header of 64 bytes, the texts, the entries, and a JSON object with the rest.
class SourceIndex {
 public:
  // Empty when there is no such file, or it is of another identity, version or container, or
  // damaged: it is made anew.
  static std::optional<SourceIndex> open(const std::string& path, const nlohmann::json& identity);
  explicit SourceIndex(std::vector<uint8_t> bytes);  // one that is not kept

  int64_t size() const { return count_; }
  int64_t pictures() const { return pictures_; }  // of all samples
  IndexEntry entry(int64_t i) const;
  std::string_view text(const IndexEntry& entry) const;  // DataError where the index is damaged
  const std::vector<FieldSet>& field_sets() const { return field_sets_; }
  const BadSamples& bad() const { return bad_; }
  // File that image_offset counts in: the source itself, or what was unpacked from it. "" = none.
  const std::string& container() const { return container_; }
  const std::string& digest() const { return digest_; }  // of texts and pictures
  // Things worth a word that are no error: files that are not read, by extension.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  SourceIndex() = default;
  bool read();  // header and the JSON object; false: damaged

  std::shared_ptr<const void> owner_;
  std::span<const uint8_t> bytes_;
  int64_t count_ = 0, pictures_ = 0, entries_at_ = 0;
  nlohmann::json identity_;
  std::vector<FieldSet> field_sets_;
  BadSamples bad_;
  std::string container_, digest_;
  std::vector<std::string> notes_;
};

// Collects samples in the order in which they will be numbered.
class SourceIndexWriter {
 public:
  SourceIndexWriter();
  ~SourceIndexWriter();
  SourceIndexWriter(const SourceIndexWriter&) = delete;
  SourceIndexWriter& operator=(const SourceIndexWriter&) = delete;

  // `text` holds the fields and what IndexEntry tells; `said` are the names of those that say
  // something.
  // `image_digest` goes into the digest of the source.
  void add(const nlohmann::json& text, std::vector<std::string> said, int64_t image_offset,
           int64_t image_size, uint64_t image_digest);
  void reject(const std::string& message) { bad_.add(message); }
  void note(const std::string& text) { notes_.push_back(text); }
  void set_container(const std::string& path) { container_ = path; }
  int64_t size() const;

  SourceIndex in_memory(const nlohmann::json& identity);
  // Written beside `path`, then renamed. DataError when the disk does not take it.
  void write(const std::string& path, const nlohmann::json& identity);

 private:
  struct Parts;
  // Hands out the file from its beginning, in pieces.
  void finish(const nlohmann::json& identity,
              const std::function<void(std::span<const char>)>& put);

  std::unique_ptr<Parts> parts_;
  BadSamples bad_;
  std::string container_;
  std::vector<std::string> notes_;
};

}  // namespace espalier
