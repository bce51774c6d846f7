#include "launch/worker/channel_connection.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <random>

#include <spdlog/spdlog.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "launch/protocol/handshake.h"
#include "launch/protocol/peer_link.h"

namespace espalier {
namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto kBeatPeriod = std::chrono::seconds(1);
constexpr auto kTimeToConnect = std::chrono::seconds(5);
constexpr double kFirstRetry_s = 0.1;
constexpr double kLongestRetry_s = 5;

Clock::duration duration_of(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

struct ChannelConnection::Link {
  Link(asio::io_context& context, const Options& options)
      : peer(context, CoordinatorAddress::load(options.address_file), options.generation,
             static_cast<uint32_t>(options.rank)),
        connect_timer(context),
        send_timer(context) {}

  void close() {
    is_open = false;
    peer.close();
    connect_timer.cancel();
    send_timer.cancel();
  }

  PeerLink peer;
  asio::steady_timer connect_timer;
  asio::steady_timer send_timer;
  bool is_welcome = false;
  bool is_open = true;
};

ChannelConnection::ChannelConnection(const Options& options, Mailbox& mailbox)
    : options_(options), mailbox_(mailbox), grace_s_(options.grace_s), retry_timer_(context_) {
  asio::co_spawn(context_, live(), asio::detached);
  // Signals are for the training thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { context_.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ChannelConnection::~ChannelConnection() {
  context_.stop();
  thread_.join();
}

void ChannelConnection::wake() {
  asio::post(context_, [this] {
    if (link_) link_->send_timer.cancel();
  });
}

asio::awaitable<void> ChannelConnection::live() {
  std::minstd_rand jitter(static_cast<unsigned>(::getpid()));
  auto away_since = Clock::now();
  double retry_s = kFirstRetry_s;
  std::string last_failure;
  while (true) {
    std::shared_ptr<Link> link;
    std::string failure;
    try {
      // The address may have changed: a coordinator that was started again has other ports.
      link = link_ = std::make_shared<Link>(context_, options_);
      co_await connect(link);
      retry_s = kFirstRetry_s;
      asio::co_spawn(context_, send(link), asio::detached);
      co_await receive(link);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    if (link && link->is_welcome) {
      spdlog::warn("lost the coordinator ({}); training goes on", failure);
      away_since = Clock::now();
    } else if (failure != last_failure) {
      spdlog::warn("no way to the coordinator yet: {}", failure);
      last_failure = failure;
    }
    if (link) link->close();
    mailbox_.disconnected();
    if (mailbox_.is_refused()) co_return;
    if (Clock::now() - away_since > duration_of(grace_s_)) mailbox_.coordinator_is_gone();
    const double factor = 0.5 + std::generate_canonical<double, 20>(jitter);
    retry_timer_.expires_after(duration_of(retry_s * factor));
    co_await retry_timer_.async_wait(asio::use_awaitable);
    retry_s = std::min(2 * retry_s, kLongestRetry_s);
  }
}

asio::awaitable<void> ChannelConnection::connect(std::shared_ptr<Link> link) {
  link->connect_timer.expires_after(kTimeToConnect);
  link->connect_timer.async_wait(
      [weak = std::weak_ptr<Link>(link)](boost::system::error_code error) {
        if (auto late = weak.lock(); late && !error) late->close();
      });
  const Frame welcome = co_await link->peer.connect();
  handle(welcome);
  link->connect_timer.cancel();
  if (mailbox_.is_refused()) throw FrameError("this generation is over");
  link->is_welcome = true;
  spdlog::debug("connected to the coordinator, generation {}", options_.generation);
  mailbox_.connected();
}

asio::awaitable<void> ChannelConnection::send(std::shared_ptr<Link> link) {
  auto next_beat = Clock::now();
  boost::system::error_code error;
  try {
    while (link->is_open) {
      if (Clock::now() >= next_beat) {
        mailbox_.add_beat(options_.exchange ? std::optional(options_.exchange()) : std::nullopt);
        next_beat = Clock::now() + kBeatPeriod;
      }
      while (auto message = mailbox_.next()) {
        co_await link->peer.send(message->type, message->payload);
        mailbox_.sent(message->id);
      }
      // wake() runs on this thread, so it cannot come between next() and this.
      link->send_timer.expires_at(next_beat);
      co_await link->send_timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  } catch (const boost::system::system_error&) {
    link->close();
  }
}

asio::awaitable<void> ChannelConnection::receive(std::shared_ptr<Link> link) {
  while (!mailbox_.is_refused()) {
    const Frame frame = co_await link->peer.receive();
    handle(frame);
  }
}

void ChannelConnection::handle(const Frame& frame) {
  if (frame.generation != options_.generation) throw FrameError("a frame of another generation");
  const auto payload = parse_payload(frame.payload);
  if (frame.type == MessageType::kStop) {
    mailbox_.asked_to_stop(StopMessage::decode(payload));
  } else if (frame.type == MessageType::kCkptCommit) {
    mailbox_.allowed(CheckpointCommitMessage::decode(payload));
  } else if (frame.type == MessageType::kBye) {
    is_over(RefusalMessage::decode(payload).why);
  } else if (frame.type == MessageType::kEnd) {
    is_over(EndMessage::decode(payload).why);
  }
}

void ChannelConnection::is_over(const std::string& why) {
  mailbox_.refused(RefusalMessage{why});
  if (options_.on_over) options_.on_over(why);
}

}  // namespace espalier
