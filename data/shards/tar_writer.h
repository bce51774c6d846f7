#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace espalier {

// Writes an uncompressed tar by libarchive, under a temporary name until it is finished. DataError
// when the disk does not take it.
class TarWriter {
 public:
  explicit TarWriter(std::string path);
  ~TarWriter();
  TarWriter(const TarWriter&) = delete;
  TarWriter& operator=(const TarWriter&) = delete;

  // Returns the offset of the data in the file.
  int64_t add(const std::string& name, std::span<const uint8_t> bytes);
  void finish();  // closes and renames

 private:
  struct Output;
  [[noreturn]] void fail() const;

  std::string path_, temporary_;
  std::unique_ptr<Output> output_;
};

}  // namespace espalier
