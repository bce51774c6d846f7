#include "launch/protocol/frame_stream.h"

#include <array>

#include <boost/asio/buffer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace espalier {
namespace asio = boost::asio;

asio::awaitable<Frame> read_frame(asio::ip::tcp::socket& socket, FrameReader& reader) {
  std::array<char, 8192> piece;
  while (true) {
    if (auto frame = reader.next()) co_return std::move(*frame);
    const size_t count = co_await socket.async_read_some(asio::buffer(piece), asio::use_awaitable);
    reader.append({piece.data(), count});
  }
}

}  // namespace espalier
