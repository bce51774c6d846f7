#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "data/images/image.h"
#include "data/sample.h"
#include "data/shards/tar_index.h"
#include "data/sources/source_index.h"

namespace espalier {

struct DatasetOptions {
  bool skip_bad_samples = false;  // false: the first bad sample throws DataError
  int image_size = 0;             // pixels per side, by fit_square(); 0 keeps the stored size
  SquareFit fit = SquareFit::kPad;
  // Fields that must be there and not empty.
  std::vector<std::string> required_fields = {"caption"};
  std::vector<std::pair<std::string, std::string>> rename = {};  // from, to
  std::string image_root = {}, image_field = {};                 // of tables
  // "decode": every picture is decoded once when a source is first seen, so that whatever size()
  // counts can be read; "headers": get() throws on a picture that is damaged further in; "auto":
  // decoded where a source is under 512 MiB.
  std::string check = "auto";
  std::string cache = {};  // folder of the indices that are kept; "" = the user's
  std::function<void(const std::string& path, int64_t samples)> on_indexing = {};
};

// Random access to the samples of any number of sources: WebDataset tars, plain and compressed,
// folders, tables. The constructor opens the index of each and makes it where there is none
// (source_cache.h); samples keep the order of the sources and of what is in them. What is in memory
// does not grow with the number of samples. Any thread may call.
class Dataset {
 public:
  // `paths` may hold patterns: * ? [..] as in the shell, lists {a,b} and ranges {00000..00012}.
  // Throws DataError for what is missing, truncated, or of a form that is not read, for a set
  // without samples, and for a bad sample (undecodable picture, missing field, text without a
  // picture) unless skipped.
  explicit Dataset(const std::vector<std::string>& paths, DatasetOptions options = {});

  int64_t size() const { return size_; }
  double pictures_per_sample() const;
  Sample get(int64_t index) const;
  Sample describe(int64_t index) const;  // everything but the pictures: no decoding
  const BadSamples& bad() const { return bad_; }
  const std::vector<std::string>& paths() const { return paths_; }  // patterns expanded
  int64_t size_bytes() const;                                       // of all sources
  // Names of the fields, with the number of samples that say something under them.
  std::vector<std::pair<std::string, int64_t>> fields() const;
  std::vector<std::string> notes() const;  // files that are not read
  // Of texts and pictures, 32 hexadecimal digits: known from the indices.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  struct Place {
    size_t source;
    IndexEntry entry;
  };

  void check_fields(size_t source);
  void reject(const std::string& message);
  std::string renamed(const std::string& field) const;
  Place place_of(int64_t index) const;
  // `pictures`, where given, gets the place of each: a name, or offset and size.
  Sample read(const Place& place, std::vector<nlohmann::json>* pictures = nullptr) const;
  Image picture(size_t source, const nlohmann::json& place) const;

  DatasetOptions options_;
  std::vector<std::string> paths_;
  std::vector<SourceIndex> sources_;
  std::vector<std::unique_ptr<ReadOnlyFile>> containers_;  // null where pictures are files
  // Of a source some of whose samples lack a field: the others.
  std::vector<std::vector<uint32_t>> chosen_;
  std::vector<int64_t> first_;  // sample of each source, and the number of all at the end
  int64_t size_ = 0;
  BadSamples bad_;
  std::string fingerprint_;
};

// The paths that patterns stand for, sorted within each pattern. Throws DataError when one matches
// nothing.
std::vector<std::string> expand_paths(const std::vector<std::string>& patterns);

}  // namespace espalier
