#pragma once

#include <memory>
#include <string>
#include <utility>  // Boost 1.74's awaitables need it first

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "launch/protocol/frame.h"
#include "launch/protocol/tls.h"

namespace espalier {

// One connection of the control channel: TCP, or TLS over it. One thread; one coroutine may read
// while another writes.
//
// Everything below throws boost::system::system_error when the connection ends.
class ControlStream {
 public:
  // `tls` may be null: plain TCP.
  ControlStream(boost::asio::ip::tcp::socket socket, const TlsContext& tls);
  ~ControlStream();

  boost::asio::ip::tcp::socket& socket() { return socket_; }
  // The peer is given up after 15 s without an acknowledgement of what was sent to it, instead of
  // the kernel's quarter of an hour.
  void set_options();

  // Once, after the connection stands. Nothing to do for plain TCP.
  boost::asio::awaitable<void> accept_tls();
  boost::asio::awaitable<void> connect_tls();

  // `bytes` must be a named variable of the caller's: g++ 12 destroys temporaries of a co_await
  // expression twice.
  boost::asio::awaitable<void> write(const std::string& bytes);
  // The next frame. `reader` keeps what arrived after it. Also throws FrameError.
  boost::asio::awaitable<Frame> read_frame(FrameReader& reader);

  bool is_open() const { return socket_.is_open(); }
  void close();

 private:
  struct Tls;

  boost::asio::ip::tcp::socket socket_;
  std::unique_ptr<Tls> tls_;  // over socket_
};

}  // namespace espalier
