#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>  // Boost 1.74's awaitables need it first

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "launch/protocol/frame.h"
#include "launch/worker/mailbox.h"

namespace espalier {

// The thread that carries a mailbox to the coordinator and back: finds it, proves who it is, sends
// with one coroutine and receives with another. When the coordinator is away it tries again with a
// jittered back-off, reading the address anew.
class ChannelConnection {
 public:
  struct Options {
    std::string address_file;
    uint32_t generation = 1;
    int rank = 0;
    double grace_s = 120;  // a coordinator that is away this long is gone for good
    // This generation is over: a newer one runs, or the coordinator wants this rank to end. On the
    // channel's thread; the training thread may wait for ever in an exchange with ranks that are no
    // more, so it is not asked.
    std::function<void(const std::string& why)> on_over;
    // Added to every beat.
    std::function<BeatMessage::Exchange()> exchange;
  };

  ChannelConnection(const Options& options, Mailbox& mailbox);
  ~ChannelConnection();
  ChannelConnection(const ChannelConnection&) = delete;
  ChannelConnection& operator=(const ChannelConnection&) = delete;

  // There is something to send. Any thread.
  void wake();
  void set_grace(double seconds) { grace_s_ = seconds; }

 private:
  // One TCP connection. The coroutine that sends may outlive the one that receives by a moment.
  struct Link;

  boost::asio::awaitable<void> live();
  boost::asio::awaitable<void> connect(std::shared_ptr<Link> link);
  boost::asio::awaitable<void> send(std::shared_ptr<Link> link);
  boost::asio::awaitable<void> receive(std::shared_ptr<Link> link);
  void handle(const Frame& frame);
  void is_over(const std::string& why);

  const Options options_;
  Mailbox& mailbox_;
  std::atomic<double> grace_s_;
  boost::asio::io_context context_;
  boost::asio::steady_timer retry_timer_;
  std::shared_ptr<Link> link_;  // the newest one
  std::thread thread_;          // last: it uses all of the above
};

}  // namespace espalier
