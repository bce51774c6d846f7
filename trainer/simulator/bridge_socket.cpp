#include "trainer/simulator/bridge_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "trainer/errors.h"

namespace espalier {
namespace {

constexpr const char* kPattern = "/espalier-XXXXXX";
constexpr const char* kFile = "/bridge";

[[noreturn]] void throw_system_error(const std::string& what) {
  throw SimulatorError(what + ": " + std::strerror(errno));
}

// A socket's path may have 107 bytes; a batch system's TMPDIR can be longer than that.
std::string folder_pattern() {
  std::error_code ignored;
  const std::string folder = std::filesystem::temp_directory_path(ignored).string();
  const size_t length = folder.size() + std::strlen(kPattern) + std::strlen(kFile);
  return (folder.empty() || length >= sizeof(sockaddr_un::sun_path) ? "/tmp" : folder) + kPattern;
}

void close_one(int& descriptor) {
  if (descriptor >= 0) ::close(descriptor);
  descriptor = -1;
}

bool is_gone(int error) { return error == EPIPE || error == ECONNRESET; }

}  // namespace

BridgeSocket::BridgeSocket() {
  std::string folder = folder_pattern();
  if (mkdtemp(folder.data()) == nullptr) throw_system_error("cannot make a folder " + folder);
  folder_ = folder;
  path_ = folder_ + kFile;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.c_str(), path_.size());
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener_ < 0 ||
      bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener_, 1) != 0) {
    const int error = errno;
    close();
    errno = error;
    throw_system_error("cannot listen at " + path_);
  }
}

BridgeSocket::~BridgeSocket() { close(); }

void BridgeSocket::close() {
  close_one(listener_);
  close_one(connection_);
  remove_file();
}

void BridgeSocket::remove_file() {
  if (folder_.empty()) return;
  unlink(path_.c_str());
  rmdir(folder_.c_str());
  folder_.clear();
}

void BridgeSocket::accept(const Wait& wait) {
  while (connection_ < 0) {
    wait(listener_, POLLIN);
    connection_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    const bool is_transient = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (connection_ < 0 && !is_transient) throw_system_error("cannot accept at " + path_);
  }
  close_one(listener_);
  remove_file();
}

void BridgeSocket::send(std::span<const std::byte> bytes, const Wait& wait) {
  while (!bytes.empty()) {
    wait(connection_, POLLOUT);
    const ssize_t sent = ::send(connection_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
    } else if (is_gone(errno)) {
      throw ConnectionClosed("it closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
      throw_system_error("cannot send");
    }
  }
}

void BridgeSocket::receive(std::span<std::byte> bytes, const Wait& wait) {
  while (!bytes.empty()) {
    wait(connection_, POLLIN);
    const ssize_t got = recv(connection_, bytes.data(), bytes.size(), 0);
    if (got > 0) {
      bytes = bytes.subspan(static_cast<size_t>(got));
    } else if (got == 0 || is_gone(errno)) {
      throw ConnectionClosed("it closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
      throw_system_error("cannot receive");
    }
  }
}

}  // namespace espalier
