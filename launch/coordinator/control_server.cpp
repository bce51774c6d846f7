#include "launch/coordinator/control_server.h"

#include <array>
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

class ControlServer::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<State> state, tcp::socket socket)
      : state_(std::move(state)),
        socket_(std::move(socket)),
        deadline_(socket_.get_executor()),
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
    const Frame frame{type, identity_.generation, identity_.rank, next_sequence_++, payload.dump()};
    enqueue(encode_frame(frame, &handshake_.keys().to_worker));
  }

  void close() {
    boost::system::error_code ignored;
    socket_.close(ignored);
    deadline_.cancel();
  }

 private:
  asio::awaitable<void> run() {
    std::string end = "closed";
    try {
      expire_after(kTimeToProve);
      co_await prove();
      expire_after(kIdleLimit);
      welcome();
      while (true) {
        const Frame frame = co_await read();
        expire_after(kIdleLimit);
        if (frame.generation != identity_.generation || frame.rank != identity_.rank) {
          throw FrameError("a frame of another rank or generation");
        }
        state_->handlers.message(identity_, frame.type, parse_payload(frame.payload));
      }
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
    enqueue(encode_frame(handshake_.challenge(co_await read())));
    handshake_.check(co_await read());
    reader_.expect_seals(handshake_.keys().to_coordinator);
    identity_.generation = handshake_.hello().generation;
    identity_.rank = handshake_.hello().rank;
    identity_.pid = parse_payload(handshake_.hello().payload).value("pid", 0);
  }

  void welcome() {
    const std::string refusal = state_->handlers.admit(identity_);
    if (!refusal.empty()) {
      send(MessageType::kBye, {{"why", refusal}});
      throw FrameError(refusal);
    }
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
    send(MessageType::kWelcome, nlohmann::json::object());
    state_->handlers.joined(identity_);
  }

  asio::awaitable<Frame> read() {
    std::array<char, 16384> piece;
    while (true) {
      if (auto frame = reader_.next()) co_return std::move(*frame);
      const size_t count =
          co_await socket_.async_read_some(asio::buffer(piece), asio::use_awaitable);
      reader_.append({piece.data(), count});
    }
  }

  void enqueue(std::string bytes) {
    queued_bytes_ += bytes.size();
    if (queued_bytes_ > kMaxQueuedBytes) return close();  // it does not read
    queue_.push_back(std::move(bytes));
    if (queue_.size() == 1) write();
  }

  void write() {
    asio::async_write(socket_, asio::buffer(queue_.front()),
                      [self = shared_from_this()](boost::system::error_code error, size_t) {
                        if (error) return self->close();
                        self->queued_bytes_ -= self->queue_.front().size();
                        self->queue_.pop_front();
                        if (!self->queue_.empty()) self->write();
                      });
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
  asio::co_spawn(
      context,
      [state = state_]() -> asio::awaitable<void> {
        while (state->acceptor.is_open()) {
          boost::system::error_code error;
          tcp::socket socket = co_await state->acceptor.async_accept(
              asio::redirect_error(asio::use_awaitable, error));
          if (error == asio::error::operation_aborted) co_return;
          if (error || state->sessions.size() >= state->max_connections) continue;
          boost::system::error_code ignored;
          socket.set_option(tcp::no_delay(true), ignored);
          auto session = std::make_shared<Session>(state, std::move(socket));
          state->sessions.insert(session);
          session->start();
        }
      },
      asio::detached);
}

ControlServer::~ControlServer() { close(); }

uint16_t ControlServer::port() const { return state_->acceptor.local_endpoint().port(); }

const ControlServer::Counters& ControlServer::counters() const { return state_->counters; }

void ControlServer::send(int rank, MessageType type, const nlohmann::json& payload) {
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
