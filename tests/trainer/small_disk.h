#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace espalier {

// Runs `body` with a folder on a disk of its own of so many bytes (a tmpfs that only the body and
// the threads it starts see). False, without running it, where this process may not mount one.
bool on_small_disk(int64_t bytes, const std::function<void(const std::string& directory)>& body);

// Takes all the space that is left on the disk of `directory`, until the object goes.
class DiskFiller {
 public:
  explicit DiskFiller(const std::string& directory);
  ~DiskFiller();
  DiskFiller(const DiskFiller&) = delete;
  DiskFiller& operator=(const DiskFiller&) = delete;

 private:
  std::string path_;
};

}  // namespace espalier
