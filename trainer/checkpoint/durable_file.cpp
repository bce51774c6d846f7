#include "trainer/checkpoint/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>
#include <vector>

#include <xxhash.h>

namespace espalier {
namespace {

[[noreturn]] void fail(const std::string& action, const std::string& path) {
  const int error = errno;
  throw StorageError(path + ": cannot " + action + ": " + std::strerror(error));
}

class File {
 public:
  File(const std::string& path, int flags, unsigned mode = 0)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~File() { close(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return fd_; }
  int close() {
    if (fd_ < 0) return 0;
    const int status = ::close(fd_);
    fd_ = -1;
    return status;
  }

 private:
  int fd_;
};

class Hasher {
 public:
  Hasher() : state_(XXH3_createState(), XXH3_freeState) { XXH3_128bits_reset(state_.get()); }
  void add(const void* bytes, size_t size) { XXH3_128bits_update(state_.get(), bytes, size); }
  std::string hex() const {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
    std::string text;
    for (const unsigned char byte : canonical.digest) {
      constexpr const char* kDigits = "0123456789abcdef";
      text += kDigits[byte >> 4];
      text += kDigits[byte & 15];
    }
    return text;
  }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

void write_all(int fd, Piece piece, const std::string& path) {
  while (!piece.empty()) {
    const ssize_t written = ::write(fd, piece.data(), piece.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write", path);
    piece = piece.subspan(static_cast<size_t>(written));
  }
}

// A pipe would be waited for, for ever (so it is opened with O_NONBLOCK, which a file does not
// mind).
void require_file(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail("read", path);
  if (!S_ISREG(info.st_mode)) throw StorageError(path + ": cannot read: it is no file");
}

}  // namespace

void ignore_file_size_signal() {
  static const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  static_cast<void>(previous);
}

FileDigest write_durably(const std::string& path, const PieceVisitor& pieces, unsigned mode) {
  ignore_file_size_signal();
  File file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
  if (file.get() < 0) fail("create", path);
  FileDigest digest;
  Hasher hasher;
  try {
    pieces([&](Piece piece) {
      hasher.add(piece.data(), piece.size());
      write_all(file.get(), piece, path);
      digest.bytes += static_cast<int64_t>(piece.size());
    });
    if (::fdatasync(file.get()) != 0) fail("fsync", path);
    if (file.close() != 0) fail("close", path);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
  digest.xxh3_128 = hasher.hex();
  return digest;
}

FileDigest write_durably(const std::string& path, const std::string& text, unsigned mode) {
  return write_durably(
      path, [&](const auto& visit) { visit(std::as_bytes(std::span(text))); }, mode);
}

void replace_file(const std::string& path,
                  const std::function<void(const std::string& temporary)>& write) {
  const std::string temporary = path + ".tmp-" + std::to_string(::getpid());
  std::filesystem::remove(temporary);
  write(temporary);
  rename_durably(temporary, path);
}

void replace_durably(const std::string& path, const std::string& text, unsigned mode) {
  replace_file(path, [&](const std::string& temporary) { write_durably(temporary, text, mode); });
}

void rename_durably(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail("rename to " + to, from);
  const std::string parent = std::filesystem::path(to).parent_path().string();
  sync_directory(parent.empty() ? "." : parent);
}

void sync_directory(const std::string& path) {
  const File directory(path, O_RDONLY | O_DIRECTORY);
  if (directory.get() < 0) fail("open", path);
  if (::fsync(directory.get()) != 0) fail("fsync", path);
}

FileDigest digest_file(const std::string& path) {
  const File file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (file.get() < 0) fail("open", path);
  require_file(file.get(), path);
  FileDigest digest;
  Hasher hasher;
  std::vector<char> buffer(1 << 20);
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read", path);
    if (got == 0) break;
    hasher.add(buffer.data(), static_cast<size_t>(got));
    digest.bytes += got;
  }
  digest.xxh3_128 = hasher.hex();
  return digest;
}

std::string digest_text(const std::string& text) {
  Hasher hasher;
  hasher.add(text.data(), text.size());
  return hasher.hex();
}

std::string read_text_file(const std::string& path, int64_t max_bytes) {
  const File file(path, O_RDONLY | O_NONBLOCK);
  if (file.get() < 0) fail("open", path);
  require_file(file.get(), path);
  std::string text;
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read", path);
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
    if (static_cast<int64_t>(text.size()) > max_bytes) {
      throw StorageError(path + ": larger than the " + std::to_string(max_bytes) +
                         " bytes that such a file may have");
    }
  }
}

std::string utc_stamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts);
  return text.data();
}

}  // namespace espalier
