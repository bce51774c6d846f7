#pragma once

#include <cstdint>
#include <string>
#include <utility>  // Boost 1.74's awaitables need it first

#include <boost/asio/awaitable.hpp>
#include <nlohmann/json.hpp>

#include "launch/protocol/control_stream.h"
#include "launch/protocol/coordinator_address.h"
#include "launch/protocol/token.h"

namespace boost::asio {
class io_context;
}

namespace espalier {

// One connection of a peer to the coordinator: of a rank, an operator or a reader. One thread; one
// coroutine may send while another receives.
//
// connect(), send() and receive() throw boost::system::system_error when the connection ends, and
// FrameError for what is not of this protocol.
class PeerLink {
 public:
  PeerLink(boost::asio::io_context& context, CoordinatorAddress address, uint32_t generation,
           uint32_t rank);

  // Loads the token of the role that the rank has, from the address's folder or from `token_file`
  // if that is not empty. Returns the coordinator's first sealed frame: WELCOME, or BYE and why.
  // A coordinator on another machine's loopback is a ConfigError that says so.
  boost::asio::awaitable<Frame> connect(const std::string& token_file = "");
  // A named variable, as for ControlStream::write().
  boost::asio::awaitable<void> send(MessageType type, const nlohmann::json& payload);
  boost::asio::awaitable<Frame> receive();
  void close() { stream_.close(); }

 private:
  boost::asio::io_context& context_;
  const CoordinatorAddress address_;
  const uint32_t generation_;
  const uint32_t rank_;
  ControlStream stream_;
  FrameReader reader_;
  SecretKey key_{};
  uint64_t next_sequence_ = 0;
};

}  // namespace espalier
