#include "launch/protocol/control_stream.h"

#include <netinet/tcp.h>

#include <array>

#include <boost/asio/buffer.hpp>
#include <boost/asio/detail/socket_option.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace espalier {
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {
constexpr int kUnacknowledged_ms = 15'000;
using UserTimeout = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_USER_TIMEOUT>;
}  // namespace

struct ControlStream::Tls {
  Tls(tcp::socket& socket, const TlsContext& shared) : context(shared), stream(socket, *context) {}
  const TlsContext context;  // its callbacks serve the stream
  asio::ssl::stream<tcp::socket&> stream;
};

ControlStream::ControlStream(tcp::socket socket, const TlsContext& tls)
    : socket_(std::move(socket)) {
  if (tls) tls_ = std::make_unique<Tls>(socket_, tls);
}

ControlStream::~ControlStream() = default;

void ControlStream::set_options() {
  boost::system::error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.set_option(asio::socket_base::keep_alive(true), ignored);
  socket_.set_option(UserTimeout(kUnacknowledged_ms), ignored);
}

asio::awaitable<void> ControlStream::accept_tls() {
  if (tls_) {
    co_await tls_->stream.async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
  }
}

asio::awaitable<void> ControlStream::connect_tls() {
  if (tls_) {
    co_await tls_->stream.async_handshake(asio::ssl::stream_base::client, asio::use_awaitable);
  }
}

asio::awaitable<void> ControlStream::write(const std::string& bytes) {
  if (tls_) {
    co_await asio::async_write(tls_->stream, asio::buffer(bytes), asio::use_awaitable);
  } else {
    co_await asio::async_write(socket_, asio::buffer(bytes), asio::use_awaitable);
  }
}

asio::awaitable<Frame> ControlStream::read_frame(FrameReader& reader) {
  std::array<char, 4096> piece;
  while (true) {
    if (auto frame = reader.next()) co_return std::move(*frame);
    const auto buffer = asio::buffer(piece);
    size_t count = 0;
    if (tls_) {
      count = co_await tls_->stream.async_read_some(buffer, asio::use_awaitable);
    } else {
      count = co_await socket_.async_read_some(buffer, asio::use_awaitable);
    }
    reader.append({piece.data(), count});
  }
}

void ControlStream::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

}  // namespace espalier
