#include "trainer/record/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "trainer/checkpoint/durable_file.h"

namespace espalier {

AppendFile::AppendFile(std::string path) : path_(std::move(path)) { ignore_file_size_signal(); }

AppendFile::~AppendFile() {
  if (fd_ >= 0) ::close(fd_);
}

bool AppendFile::open() {
  if (fd_ < 0) fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  return fd_ >= 0;
}

bool AppendFile::fail(int error) {
  error_ = path_ + " cannot be written: " + std::strerror(error);
  ++left_out_;
  return false;
}

bool AppendFile::append(const std::string& record) {
  if (!open()) return fail(errno);
  size_t written = 0;
  while (written < record.size()) {
    const ssize_t count = ::write(fd_, record.data() + written, record.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : ENOSPC;
      take_back(written);
      return fail(error);
    }
    written += static_cast<size_t>(count);
  }
  return true;
}

bool AppendFile::append_line(const std::string& line) {
  if (!open()) return fail(errno);
  return append((ends_inside_a_line() ? "\n" : "") + line + "\n");
}

bool AppendFile::ends_inside_a_line() const {
  struct stat info {};
  char last = '\n';
  if (::fstat(fd_, &info) != 0 || info.st_size == 0) return false;
  return ::pread(fd_, &last, 1, info.st_size - 1) == 1 && last != '\n';
}

// Unless somebody appended behind it: then it stays, and the next line starts on its own.
void AppendFile::take_back(size_t written) {
  if (written == 0) return;
  struct stat info {};
  const off_t end = ::lseek(fd_, 0, SEEK_CUR);
  if (::fstat(fd_, &info) != 0 || info.st_size != end) return;
  static_cast<void>(::ftruncate(fd_, end - static_cast<off_t>(written)) == 0);
}

}  // namespace espalier
