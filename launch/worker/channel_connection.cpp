#include "launch/worker/channel_connection.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <random>

#include <spdlog/spdlog.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "launch/protocol/frame_stream.h"
#include "launch/protocol/handshake.h"

namespace espalier {
namespace asio = boost::asio;
using asio::ip::tcp;
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
  explicit Link(asio::io_context& context)
      : socket(context), connect_timer(context), send_timer(context) {}

  void close() {
    boost::system::error_code ignored;
    is_open = false;
    socket.close(ignored);
    connect_timer.cancel();
    send_timer.cancel();
  }

  tcp::socket socket;
  asio::steady_timer connect_timer;
  asio::steady_timer send_timer;
  FrameReader reader;
  SecretKey key{};
  uint64_t next_sequence = 0;
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
  while (true) {
    const auto link = link_ = std::make_shared<Link>(context_);
    try {
      co_await connect(link);
      retry_s = kFirstRetry_s;
      asio::co_spawn(context_, send(link), asio::detached);
      co_await receive(link);
    } catch (const std::exception& error) {
      if (link->is_welcome) {
        spdlog::warn("lost the coordinator ({}); training goes on", error.what());
        away_since = Clock::now();
      }
    }
    link->close();
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
  // The address may have changed: a coordinator that was started again has other ports.
  std::ifstream file(options_.address_file);
  const auto address = nlohmann::json::parse(file);
  const SecretKey token = load_token(address.at("token_file").get<std::string>());
  const tcp::endpoint endpoint(asio::ip::make_address(address.at("host").get<std::string>()),
                               address.at("control_port").get<uint16_t>());
  link->connect_timer.expires_after(kTimeToConnect);
  link->connect_timer.async_wait(
      [weak = std::weak_ptr<Link>(link)](boost::system::error_code error) {
        if (auto late = weak.lock(); late && !error) late->close();
      });
  co_await link->socket.async_connect(endpoint, asio::use_awaitable);
  link->socket.set_option(tcp::no_delay(true));

  WorkerHandshake handshake(token, options_.generation, static_cast<uint32_t>(options_.rank),
                            HelloMessage{::getpid()});
  const std::string hello = encode_frame(handshake.hello());
  co_await asio::async_write(link->socket, asio::buffer(hello), asio::use_awaitable);
  const Frame challenge = co_await read_frame(link->socket, link->reader);
  const std::string proof = encode_frame(handshake.answer(challenge));
  co_await asio::async_write(link->socket, asio::buffer(proof), asio::use_awaitable);
  link->reader.expect_seals(handshake.keys().to_worker);
  link->key = handshake.keys().to_coordinator;
  const Frame welcome = co_await read_frame(link->socket, link->reader);
  handle(welcome);
  link->connect_timer.cancel();
  if (mailbox_.is_refused()) throw FrameError("this generation is over");
  link->is_welcome = true;
  mailbox_.connected();
}

asio::awaitable<void> ChannelConnection::send(std::shared_ptr<Link> link) {
  auto next_beat = Clock::now();
  boost::system::error_code error;
  while (link->is_open) {
    if (Clock::now() >= next_beat) {
      mailbox_.add_beat();
      next_beat = Clock::now() + kBeatPeriod;
    }
    while (auto message = mailbox_.next()) {
      const Frame frame{message->type, options_.generation, static_cast<uint32_t>(options_.rank),
                        link->next_sequence++, message->payload.dump()};
      const std::string bytes = encode_frame(frame, &link->key);
      co_await asio::async_write(link->socket, asio::buffer(bytes),
                                 asio::redirect_error(asio::use_awaitable, error));
      if (error) co_return link->close();
      mailbox_.sent(message->id);
    }
    // wake() runs on this thread, so it cannot come between next() and this.
    link->send_timer.expires_at(next_beat);
    co_await link->send_timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
}

asio::awaitable<void> ChannelConnection::receive(std::shared_ptr<Link> link) {
  while (!mailbox_.is_refused()) {
    const Frame frame = co_await read_frame(link->socket, link->reader);
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
    mailbox_.refused(RefusalMessage::decode(payload));
  }
}

}  // namespace espalier
