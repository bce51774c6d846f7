#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/shards/tar_index.h"
#include "data/sources/source_index.h"

namespace espalier {

inline constexpr int64_t kMaxTextBytes = int64_t{1} << 20;  // of what is written about a picture
inline constexpr int64_t kMaxPictureBytes = int64_t{256} << 20;

// How a source is looked through. Rejected samples are counted in the index; whether they end the
// run is decided by who opens it.
struct BuildOptions {
  // Decode every picture, so that whatever is counted can be read; otherwise only its header.
  bool decode = true;
  std::string image_root;   // where relative names of pictures in a table begin; "" = beside it
  std::string image_field;  // of a table; "" = the first of image, file_name, image_path, …
  std::string unpacked;     // path of the tar that is made of what has no random access
  std::function<void(int64_t samples)> on_samples;  // hears now and then how many there are
};

// One function for each form that data come in. DataError when the source as a whole cannot be
// read; samples that cannot be used are rejected one by one.
//
// WebDataset: KEY.png, .jpg, .jpeg or .webp with KEY.json or KEY.txt (a caption), or both; of
// several pictures KEY.0.png, KEY.1.png and so on.
void index_tar_file(const std::string& path, const BuildOptions& options, SourceIndexWriter& index);
// .tar.gz and its like by libarchive: unpacked into options.unpacked, which is then indexed.
void index_compressed_tar(const std::string& path, const BuildOptions& options,
                          SourceIndexWriter& index);
// The same pairs as loose files, at any depth, in the order of their names; "folder" is a field
// with the name of the folder that a picture lies in.
void index_folder(const std::string& path, const BuildOptions& options, SourceIndexWriter& index);
// A row is a sample; its pictures are files, or one lies in the row (Parquet): then rows are
// unpacked into options.unpacked. CSV, TSV and Parquet by Arrow; JSONL and a JSON list.
void index_table(const std::string& path, const BuildOptions& options, SourceIndexWriter& index);

// For the functions above.
//
// Whether `size` bytes from `offset` are a picture that can be read; its digest. DataError when
// not. Without options.decode only the beginning is read.
uint64_t check_picture(const ReadOnlyFile& file, int64_t offset, int64_t size,
                       const BuildOptions& options, const std::string& name);
// The same of bytes that are in memory.
uint64_t check_picture(std::span<const uint8_t> bytes, const BuildOptions& options,
                       const std::string& name);
bool is_picture_name(const std::string& extension);  // "png"
std::string lower_case(std::string text);

// Where a picture of a sample is: `file` where it is one of its own, else bytes of the container.
struct PicturePlace {
  std::string called = {};  // by the messages of the sample
  std::string file = {};
  int64_t offset = 0, size = 0;
  uint64_t digest = 0;
};
// Adds a sample with what `fields`, an object, says of it.
void add_sample(SourceIndexWriter& index, const std::string& key, const nlohmann::json& fields,
                const std::vector<PicturePlace>& pictures, const std::string& name);
// Notes how many files of which extension are not read.
class IgnoredFiles {
 public:
  void add(const std::string& extension) { ++counts_[extension]; }
  void note(SourceIndexWriter& index) const;

 private:
  std::map<std::string, int64_t> counts_;
};

}  // namespace espalier
