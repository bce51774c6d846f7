#include "trainer/record/run_directory.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "trainer/errors.h"
#include "trainer/host/host_name.h"
#include "trainer/record/json_field.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace {

using nlohmann::json;

constexpr int kLockFlags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;

// A disk that is full or fails may do better next time; whatever else it is, is the user's to fix.
[[noreturn]] void refuse(const std::string& run, int error) {
  const std::string what = "run directory " + run + " cannot be written: " + std::strerror(error);
  for (const int of_disk : {ENOSPC, EDQUOT, EIO, ESTALE}) {
    if (error == of_disk) throw StorageError(what);
  }
  throw ConfigError(what + "; choose another with --set run.directory=…");
}

// What train.lock says.
struct Holder {
  int pid = 0;
  std::string host;
  int generation = 0;

  std::string text() const {
    if (pid == 0) return "an unknown process";
    const std::string launch =
        generation == 0 ? "" : ", generation " + std::to_string(generation) + " of a coordinator";
    return "process " + std::to_string(pid) + " on " + host + launch;
  }
};

Holder read_holder(int lock) {
  std::array<char, 1024> text{};
  Holder holder;
  const ssize_t size = ::pread(lock, text.data(), text.size(), 0);
  if (size <= 0) return holder;
  const json said = json::parse(text.data(), text.data() + size, nullptr,
                                /*allow_exceptions=*/false);
  read_field(said, "pid", &holder.pid);
  read_field(said, "host", &holder.host);
  read_field(said, "generation", &holder.generation);
  return holder;
}

// The lock itself holds without it, so a full disk is no reason to stop.
void write_holder(int lock, int generation) {
  const std::string text =
      json_text({{"pid", ::getpid()}, {"host", host_name()}, {"generation", generation}}) + "\n";
  if (::ftruncate(lock, 0) != 0 ||
      ::pwrite(lock, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    spdlog::warn("train.lock cannot say who holds it: {}", std::strerror(errno));
  }
}

// Whether the open file is the one of that name. Opened anew: over a network, a name alone may be
// answered from memory.
bool is_file_of_name(int open_file, const std::string& path) {
  const int named = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (named < 0) return true;  // nobody else's either
  struct stat mine {
  }, theirs{};
  const bool is_same = ::fstat(open_file, &mine) == 0 && ::fstat(named, &theirs) == 0 &&
                       mine.st_dev == theirs.st_dev && mine.st_ino == theirs.st_ino;
  ::close(named);
  return is_same;
}

// A lock file of our own under the name of the other, whose holder keeps a file without a name.
int replace_lock(const std::string& run, const std::string& path, int generation) {
  const std::string fresh = path + ".tmp-" + std::to_string(::getpid());
  ::unlink(fresh.c_str());
  const int lock = ::open(fresh.c_str(), kLockFlags | O_EXCL, 0644);
  if (lock < 0) refuse(run, errno);
  write_holder(lock, generation);
  if (::flock(lock, LOCK_EX | LOCK_NB) == 0 && ::rename(fresh.c_str(), path.c_str()) == 0) {
    return lock;
  }
  const int error = errno;
  ::unlink(fresh.c_str());
  ::close(lock);
  refuse(run, error);
}

bool has_no_locks(int error) { return error == ENOSYS || error == EOPNOTSUPP || error == ENOLCK; }

// -1: the file was replaced between open and lock.
int take_lock(const std::string& run, const std::string& path, int generation) {
  const int lock = ::open(path.c_str(), kLockFlags, 0644);
  if (lock < 0) refuse(run, errno);
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    if (!has_no_locks(error)) {
      const Holder holder = read_holder(lock);
      ::close(lock);
      if (error != EWOULDBLOCK) refuse(run, error);
      if (holder.generation > 0 && holder.generation < generation) {
        spdlog::warn("{} is still held by {}: a rank that was cut off; it is passed over", path,
                     holder.text());
        return replace_lock(run, path, generation);
      }
      throw ConfigError("run directory " + run + " is in use by another training (" +
                        holder.text() + "); stop it, or choose another with --set run.directory=…");
    }
    spdlog::warn(
        "{}: this file system has no locks ({}): see to it yourself that no two trainings "
        "share the run directory",
        path, std::strerror(error));
  }
  if (!is_file_of_name(lock, path)) {
    ::close(lock);
    return -1;
  }
  write_holder(lock, generation);
  return lock;
}

}  // namespace

RunDirectory::RunDirectory(const std::string& path, int generation)
    : lock_path_(path + "/train.lock") {
  for (const char* folder : {"checkpoints", "tensorboard", "evaluation", "images", "logs"}) {
    std::error_code error;
    std::filesystem::create_directories(path + "/" + folder, error);
    if (error) refuse(path, error.value());
  }
  while (lock_ < 0) lock_ = take_lock(path, lock_path_, generation);
}

RunDirectory::~RunDirectory() { ::close(lock_); }

bool RunDirectory::is_ours() const { return is_file_of_name(lock_, lock_path_); }

}  // namespace espalier
