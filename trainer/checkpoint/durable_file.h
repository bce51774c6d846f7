#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "trainer/errors.h"

namespace espalier {

// What goes wrong below is a StorageError.

struct FileDigest {
  int64_t bytes = 0;
  std::string xxh3_128;  // 32 hexadecimal digits
  bool operator==(const FileDigest&) const = default;
};

using Piece = std::span<const std::byte>;
using PieceVisitor = std::function<void(const std::function<void(Piece)>&)>;

// Creates `path`, which must not exist, writes all pieces, and returns when they are on the disk.
// The digest is of the memory that was written, so what the disk holds can be checked against what
// was meant. A file that could not be written whole is removed: after a failed fsync nothing is
// known about its pages, and trying again would report success.
FileDigest write_durably(const std::string& path, const PieceVisitor& pieces, unsigned mode = 0644);
FileDigest write_durably(const std::string& path, const std::string& text, unsigned mode = 0644);

// `write` makes a temporary file beside `path`, which then replaces it: readers see the old or the
// new file, and a killed process leaves no half of one under the final name.
void replace_file(const std::string& path,
                  const std::function<void(const std::string& temporary)>& write);
// The same for a text, which is on the disk before it gets the name.
void replace_durably(const std::string& path, const std::string& text, unsigned mode = 0644);

void rename_durably(const std::string& from, const std::string& to);  // and fsyncs the parent
void sync_directory(const std::string& path);

FileDigest digest_file(const std::string& path);  // throws StorageError when it cannot be read
std::string digest_text(const std::string& text);

std::string read_text_file(const std::string& path, int64_t max_bytes = 64 << 20);

// A file larger than its limit becomes an error of write(), not the end of the process.
void ignore_file_size_signal();

// "20261123T080910Z", for the names of what is set aside.
std::string utc_stamp();

}  // namespace espalier
