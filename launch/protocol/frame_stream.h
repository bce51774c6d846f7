#pragma once

#include <utility>  // Boost 1.74's awaitables need it first

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "launch/protocol/frame.h"

namespace espalier {

// The next frame of a connection. `reader` keeps what arrived after it. Throws FrameError, or
// boost::system::system_error when the connection ends. Both arguments must outlive the call.
boost::asio::awaitable<Frame> read_frame(boost::asio::ip::tcp::socket& socket, FrameReader& reader);

}  // namespace espalier
