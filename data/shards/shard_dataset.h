#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/sample.h"
#include "data/shards/tar_index.h"

namespace espalier {

struct ShardDatasetOptions {
  bool skip_bad_samples = false;  // false: the first bad sample throws DataError
  int image_size = 0;             // pixels per side, by fit_square(); 0 keeps the stored size
  // Fields of the JSON that must be there and not empty.
  std::vector<std::string> required_fields = {"caption"};
  // Decode every picture once on opening, so that whatever size() counts can be read. Without it
  // only headers are checked, and get() throws on a picture that is damaged further in.
  bool decode_on_open = true;
};

struct BadSamples {
  int64_t count = 0;
  std::vector<std::string> messages;  // the first 100
};

// Random access to the samples of WebDataset tars. The constructor indexes every shard; samples
// keep the order of the shards and, inside one, of their first member. All const methods may be
// called from any thread.
class ShardDataset {
 public:
  // `paths` may hold patterns: * ? [..] as in the shell, and ranges {00000..00012}. Throws
  // DataError for a missing, truncated or empty shard list, for a set without samples, and for a
  // bad sample (undecodable picture, missing field, picture or JSON without its other half) unless
  // skipped.
  explicit ShardDataset(const std::vector<std::string>& paths, ShardDatasetOptions options = {});

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  Sample get(int64_t index) const;
  Sample describe(int64_t index) const;  // everything but the picture: no decoding
  const BadSamples& bad() const { return bad_; }
  std::vector<std::string> paths() const;  // patterns expanded
  int64_t size_bytes() const;              // of all shards
  // XXH3-128 over the contents of all shards in order, 32 hexadecimal digits. Reads every byte.
  std::string fingerprint() const;

 private:
  struct Entry {
    std::string key;
    int shard = 0;
    TarMember image;
    TarMember fields;
  };

  void add_shard(int shard);
  void check(const Entry& entry) const;
  void reject(const std::string& message);
  std::string name_of(const Entry& entry, const TarMember& member) const;
  Sample read_fields(const Entry& entry) const;

  ShardDatasetOptions options_;
  std::vector<ReadOnlyFile> shards_;
  std::vector<Entry> entries_;
  BadSamples bad_;
};

// The files that patterns stand for, sorted within each pattern. Throws DataError when one matches
// nothing.
std::vector<std::string> expand_shard_paths(const std::vector<std::string>& patterns);

}  // namespace espalier
