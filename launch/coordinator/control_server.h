#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>  // Boost 1.74's awaitables need it first

#include <boost/asio/awaitable.hpp>
#include <nlohmann/json.hpp>

#include "launch/protocol/frame.h"

namespace boost::asio {
class io_context;
}

namespace espalier {

// Who a connection turned out to be, once it proved that it holds the token.
struct PeerIdentity {
  uint32_t generation = 0;
  uint32_t rank = 0;  // kOperatorRank for `espalier stop`
  int pid = 0;
};

// The coordinator's end of the control channel: listens on loopback, authenticates, checks the
// generation of every frame, and hands messages over. Everything runs on the io_context's thread.
class ControlServer {
 public:
  struct Handlers {
    // Before WELCOME. A non-empty answer refuses the peer and is told to it.
    std::function<std::string(const PeerIdentity&)> admit;
    std::function<void(const PeerIdentity&)> joined;
    // May throw FrameError for what no rank may say: the connection is closed.
    std::function<void(const PeerIdentity&, MessageType, const nlohmann::json&)> message;
    std::function<void(const PeerIdentity&)> hung_up;
  };
  struct Counters {
    int64_t refused = 0;  // wrong token, no frame, old generation, too slow
    int64_t accepted = 0;
  };

  // Takes any free port of 127.0.0.1.
  ControlServer(boost::asio::io_context& context, const SecretKey& token, int max_connections,
                Handlers handlers);
  ~ControlServer();

  uint16_t port() const;
  const Counters& counters() const;
  // To one rank, or with rank < 0 to all. Silently nothing for a rank that is not connected: it is
  // told again when it joins.
  template <class Message>
  void send(int rank, const Message& message) {
    send_payload(rank, Message::kType, message.encode());
  }
  void close();

 private:
  class Session;
  struct State;
  static boost::asio::awaitable<void> accept(std::shared_ptr<State> state);
  void send_payload(int rank, MessageType type, const nlohmann::json& payload);

  std::shared_ptr<State> state_;
};

}  // namespace espalier
