#include "small_disk.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <exception>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "toy_room.h"

namespace espalier {

bool on_small_disk(int64_t bytes, const std::function<void(const std::string& directory)>& body) {
  const std::string directory = fresh_directory("small-disk");
  std::filesystem::create_directories(directory);
  bool is_mounted = false;
  std::exception_ptr error;
  // The new namespace of mounts is this thread's and its children's, and goes with them.
  std::thread([&] {
    const std::string size = "size=" + std::to_string(bytes);
    is_mounted = ::unshare(CLONE_NEWNS) == 0 &&
                 ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                 ::mount("none", directory.c_str(), "tmpfs", 0, size.c_str()) == 0;
    if (!is_mounted) return;
    try {
      body(directory);
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
  return is_mounted;
}

DiskFiller::DiskFiller(const std::string& directory) : path_(directory + "/filler") {
  const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) throw std::runtime_error("no filler on " + directory);
  const std::string block(4096, 'x');
  while (::write(file, block.data(), block.size()) > 0) {
  }
  ::close(file);
}

DiskFiller::~DiskFiller() { ::unlink(path_.c_str()); }

}  // namespace espalier
