#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier {

struct TarMember {
  std::string name;
  int64_t offset = 0;  // of the data, in bytes from the start of the archive
  int64_t size = 0;    // bytes
};

// Read-only handle on a file: positioned reads, no shared cursor, so any number of threads may
// read.
class ReadOnlyFile {
 public:
  explicit ReadOnlyFile(const std::string& path);  // throws DataError
  ~ReadOnlyFile();
  ReadOnlyFile(ReadOnlyFile&& other) noexcept;
  ReadOnlyFile(const ReadOnlyFile&) = delete;
  ReadOnlyFile& operator=(const ReadOnlyFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }  // bytes, when it was opened
  // Throws DataError when fewer than `bytes` are there.
  void read(int64_t offset, void* into, int64_t bytes) const;
  std::vector<uint8_t> read(int64_t offset, int64_t bytes) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

// Regular members of an uncompressed tar (ustar, GNU and pax headers), in the order they are
// stored. Throws DataError naming the file, the member and the offset when a header is damaged or
// the archive ends early; an archive without its closing zero block counts as ended early.
std::vector<TarMember> index_tar(const ReadOnlyFile& file);

// The same of a part that begins with a header and ends where a member's padding ends, bytes
// [begin, end) of the file; no closing block is expected. Offsets count from the file's start, and
// errors name `part` in place of the file. Reads headers only: 512 bytes a member.
std::vector<TarMember> index_tar_part(const ReadOnlyFile& file, int64_t begin, int64_t end,
                                      const std::string& part);

}  // namespace espalier
