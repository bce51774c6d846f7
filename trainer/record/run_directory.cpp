#include "trainer/record/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "trainer/errors.h"

namespace espalier {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw ConfigError("run directory " + path + " cannot be written: " + reason +
                    "; choose another with --set run.directory=…");
}

std::string owner_of(int lock) {
  std::array<char, 256> text{};
  const ssize_t size = ::pread(lock, text.data(), text.size() - 1, 0);
  return size > 0 ? std::string(text.data()) : "unknown";
}

}  // namespace

RunDirectory::RunDirectory(const std::string& path) {
  for (const char* folder : {"checkpoints", "tensorboard", "evaluation", "images", "logs"}) {
    std::error_code error;
    std::filesystem::create_directories(path + "/" + folder, error);
    if (error) refuse(path, error.message());
  }
  const std::string lock_path = path + "/train.lock";
  lock_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (lock_ < 0) refuse(path, std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const std::string owner = owner_of(lock_);
    ::close(lock_);
    throw ConfigError("run directory " + path + " is in use by another training (" + owner +
                      "); stop it, or choose another with --set run.directory=…");
  }
  std::array<char, 128> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string owner =
      "process " + std::to_string(::getpid()) + " on " + std::string(host.data());
  if (::ftruncate(lock_, 0) != 0 ||
      ::pwrite(lock_, owner.data(), owner.size(), 0) != static_cast<ssize_t>(owner.size())) {
    const std::string reason = std::strerror(errno);
    ::close(lock_);
    refuse(path, reason);
  }
}

RunDirectory::~RunDirectory() { ::close(lock_); }

}  // namespace espalier
