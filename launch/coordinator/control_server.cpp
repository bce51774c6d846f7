#include "launch/coordinator/control_server.h"

#include <deque>
#include <set>
#include <utility>

#include <spdlog/spdlog.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "launch/protocol/frame_stream.h"
#include "launch/protocol/handshake.h"

namespace espalier {
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {
constexpr auto kTimeToProve = std::chrono::seconds(5);
constexpr auto kIdleLimit = std::chrono::seconds(60);  // workers beat every second
constexpr size_t kMaxQueuedBytes = 4 << 20;
}  // namespace

struct ControlServer::State {
  State(asio::io_context& io, const SecretKey& key, int connections, Handlers callbacks)
      : context(io),
        acceptor(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
        token(key),
        max_connections(static_cast<size_t>(connections)),
        handlers(std::move(callbacks)) {}

  asio::io_context& context;
  tcp::acceptor acceptor;
  SecretKey token;
  size_t max_connections;
  Handlers handlers;
  Counters counters;
  std::set<std::shared_ptr<Session>> sessions;
};

// One connection. run() proves the peer and then receives; send_all() sends what is queued.
class ControlServer::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<State> state, tcp::socket socket)
      : state_(std::move(state)),
        socket_(std::move(socket)),
        deadline_(socket_.get_executor()),
        send_timer_(socket_.get_executor()),
        handshake_(state_->token) {}

  void start() {
    asio::co_spawn(
        socket_.get_executor(),
        [self = shared_from_this()]() -> asio::awaitable<void> { co_await self->run(); },
        asio::detached);
  }

  const PeerIdentity& identity() const { return identity_; }
  bool welcomed() const { return welcomed_; }

  void send(MessageType type, const nlohmann::json& payload) {
    queue_.push_back(seal(type, payload));
    queued_bytes_ += queue_.back().size();
    if (queued_bytes_ > kMaxQueuedBytes) return close();  // it does not read
    send_timer_.cancel();
  }

  void close() {
    boost::system::error_code ignored;
    socket_.close(ignored);
    deadline_.cancel();
    send_timer_.cancel();
  }

 private:
  asio::awaitable<void> run() {
    try {
      expire_after(kTimeToProve);
      co_await prove();
      co_await admit();
      welcome();
      co_await receive();
    } catch (const FrameError& error) {
      ++state_->counters.refused;
      spdlog::warn("control: refused a peer: {}", error.what());
    } catch (const boost::system::system_error&) {
      if (!welcomed_) ++state_->counters.refused;
    }
    close();
    state_->sessions.erase(shared_from_this());
    if (welcomed_) state_->handlers.hung_up(identity_);
  }

  asio::awaitable<void> prove() {
    const Frame hello = co_await read_frame(socket_, reader_);
    const std::string challenge = encode_frame(handshake_.challenge(hello));
    co_await asio::async_write(socket_, asio::buffer(challenge), asio::use_awaitable);
    const Frame proof = co_await read_frame(socket_, reader_);
    handshake_.check(proof);
    reader_.expect_seals(handshake_.keys().to_coordinator);
    identity_.generation = hello.generation;
    identity_.rank = hello.rank;
    identity_.pid = HelloMessage::decode(parse_payload(hello.payload)).pid;
  }

  asio::awaitable<void> admit() {
    const std::string refusal = state_->handlers.admit(identity_);
    if (refusal.empty()) co_return;
    const std::string bytes = seal(RefusalMessage::kType, RefusalMessage{refusal}.encode());
    co_await asio::async_write(socket_, asio::buffer(bytes), asio::use_awaitable);
    throw FrameError(refusal);
  }

  void welcome() {
    ++state_->counters.accepted;
    // A worker that reconnects before its old connection is noticed to be dead replaces it.
    for (const auto& other : state_->sessions) {
      if (other.get() != this && other->welcomed_ && other->identity_.rank == identity_.rank &&
          identity_.rank != kOperatorRank) {
        other->welcomed_ = false;
        other->close();
      }
    }
    welcomed_ = true;
    send(WelcomeMessage::kType, WelcomeMessage{}.encode());
    asio::co_spawn(
        socket_.get_executor(),
        [self = shared_from_this()]() -> asio::awaitable<void> { co_await self->send_all(); },
        asio::detached);
    state_->handlers.joined(identity_);
  }

  asio::awaitable<void> receive() {
    while (true) {
      expire_after(kIdleLimit);
      const Frame frame = co_await read_frame(socket_, reader_);
      if (frame.generation != identity_.generation || frame.rank != identity_.rank) {
        throw FrameError("a frame of another rank or generation");
      }
      state_->handlers.message(identity_, frame.type, parse_payload(frame.payload));
    }
  }

  asio::awaitable<void> send_all() {
    boost::system::error_code error;
    while (socket_.is_open()) {
      while (!queue_.empty()) {
        const std::string bytes = std::move(queue_.front());
        queue_.pop_front();
        co_await asio::async_write(socket_, asio::buffer(bytes),
                                   asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return close();
        queued_bytes_ -= bytes.size();
      }
      // Until send() or close() cancels it; both run on this thread.
      send_timer_.expires_at(asio::steady_timer::time_point::max());
      co_await send_timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }

  std::string seal(MessageType type, const nlohmann::json& payload) {
    const Frame frame{type, identity_.generation, identity_.rank, next_sequence_++, payload.dump()};
    return encode_frame(frame, &handshake_.keys().to_worker);
  }

  void expire_after(std::chrono::seconds time) {
    deadline_.expires_after(time);
    deadline_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      if (auto self = weak.lock(); self && !error) self->close();
    });
  }

  std::shared_ptr<State> state_;
  tcp::socket socket_;
  asio::steady_timer deadline_;
  asio::steady_timer send_timer_;
  CoordinatorHandshake handshake_;
  FrameReader reader_;
  PeerIdentity identity_;
  bool welcomed_ = false;
  uint64_t next_sequence_ = 0;
  std::deque<std::string> queue_;
  size_t queued_bytes_ = 0;
};

ControlServer::ControlServer(asio::io_context& context, const SecretKey& token, int max_connections,
                             Handlers handlers)
    : state_(std::make_shared<State>(context, token, max_connections, std::move(handlers))) {
  asio::co_spawn(context, accept(state_), asio::detached);
}

asio::awaitable<void> ControlServer::accept(std::shared_ptr<State> state) {
  while (state->acceptor.is_open()) {
    boost::system::error_code error;
    tcp::socket socket =
        co_await state->acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted) co_return;
    if (error || state->sessions.size() >= state->max_connections) continue;
    boost::system::error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    auto session = std::make_shared<Session>(state, std::move(socket));
    state->sessions.insert(session);
    session->start();
  }
}

ControlServer::~ControlServer() { close(); }

uint16_t ControlServer::port() const { return state_->acceptor.local_endpoint().port(); }

const ControlServer::Counters& ControlServer::counters() const { return state_->counters; }

void ControlServer::send_payload(int rank, MessageType type, const nlohmann::json& payload) {
  for (const auto& session : state_->sessions) {
    if (session->welcomed() && session->identity().rank != kOperatorRank &&
        (rank < 0 || session->identity().rank == static_cast<uint32_t>(rank))) {
      session->send(type, payload);
    }
  }
}

void ControlServer::close() {
  boost::system::error_code ignored;
  state_->acceptor.close(ignored);
  const auto sessions = state_->sessions;
  for (const auto& session : sessions) session->close();
}

}  // namespace espalier
