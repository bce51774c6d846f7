#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>  // Boost 1.74's awaitables need it first

#include <boost/asio/awaitable.hpp>
#include <nlohmann/json.hpp>

#include "launch/protocol/frame.h"
#include "launch/protocol/host_identity.h"
#include "launch/protocol/tls.h"
#include "launch/protocol/token.h"

namespace boost::asio {
class io_context;
}

namespace espalier {

// Who a connection turned out to be, once it proved that it holds the token of its role.
struct PeerIdentity {
  uint32_t generation = 0;
  uint32_t rank = 0;  // kOperatorRank or kReaderRank for one that is no rank
  int pid = 0;
  HostIdentity host;

  Role role() const { return role_of(rank); }
};

// The coordinator's end of the control channel: listens, authenticates, checks the generation of
// every frame, and hands messages over. Everything runs on the io_context's thread.
class ControlServer {
 public:
  struct Options {
    std::string address = "127.0.0.1";  // a number, as listen_address() checked it
    uint16_t port = 0;                  // 0: any free one
    TlsContext tls;                     // null: plain TCP, on loopback only
    RoleTokens tokens;
    int max_peers = 64;  // proved ones; of those that have yet to prove who they are there is an
                         // own number, so that they cannot keep a rank out
  };
  struct Handlers {
    // Before WELCOME. A non-empty answer refuses the peer and is told to it.
    std::function<std::string(const PeerIdentity&)> admit;
    std::function<void(const PeerIdentity&)> joined;
    // May throw FrameError for what no such peer may say: the connection is closed.
    std::function<void(const PeerIdentity&, MessageType, const nlohmann::json&)> message;
    std::function<void(const PeerIdentity&)> hung_up;
    // What STATUS is answered with.
    std::function<nlohmann::json()> status;
  };
  struct Counters {
    int64_t refused = 0;  // wrong token, no frame, old generation, too slow
    int64_t accepted = 0;
    int64_t crowded_out = 0;  // before they proved who they are, by newer connections
  };

  // Throws ConfigError when it cannot listen there.
  ControlServer(boost::asio::io_context& context, Options options, Handlers handlers);
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

// The numerical address to listen on for `text`, a number or a name of this machine. Throws
// ConfigError for anything else, and for any address but loopback without TLS.
std::string listen_address(const std::string& text, bool has_tls);

}  // namespace espalier
