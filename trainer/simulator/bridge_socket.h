#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>

namespace espalier {

// The other side of a socket has gone.
class ConnectionClosed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Returns when `events` (of poll()) have come to a descriptor; throws to give up waiting.
using Wait = std::function<void(int descriptor, short events)>;

// A Unix-domain socket that one other process connects to. Its file lies in a folder that only
// this user may enter, and is gone once the other has connected.
class BridgeSocket {
 public:
  BridgeSocket();  // binds and listens; throws SimulatorError
  ~BridgeSocket();
  BridgeSocket(const BridgeSocket&) = delete;
  BridgeSocket& operator=(const BridgeSocket&) = delete;

  const std::string& path() const { return path_; }
  void accept(const Wait& wait);
  // All of the bytes. Throw ConnectionClosed, and what `wait` throws.
  void send(std::span<const std::byte> bytes, const Wait& wait);
  void receive(std::span<std::byte> bytes, const Wait& wait);
  void close();

 private:
  void remove_file();

  std::string folder_;
  std::string path_;
  int listener_ = -1;
  int connection_ = -1;
};

}  // namespace espalier
