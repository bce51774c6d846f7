#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier {

// The lines that a growing file got since the last call. A file that is not there yet is empty; one
// that became shorter was begun anew, and is read from its beginning.
class FileTail {
 public:
  // `start`: bytes to leave out.
  explicit FileTail(std::string path, int64_t start = 0) : path_(std::move(path)), at_(start) {}

  const std::string& path() const { return path_; }
  // Whole lines, without their ends; what has no end yet waits for the next call.
  std::vector<std::string> lines();

 private:
  std::string path_;
  int64_t at_;
};

}  // namespace espalier
