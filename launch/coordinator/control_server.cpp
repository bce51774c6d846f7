#include "launch/coordinator/control_server.h"

#include <chrono>
#include <deque>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "launch/protocol/control_stream.h"
#include "launch/protocol/handshake.h"
#include "trainer/errors.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {
constexpr auto kTimeToProve = std::chrono::seconds(5);
constexpr auto kIdleLimit = std::chrono::seconds(60);  // workers beat every second
constexpr size_t kMaxQueuedBytes = 4 << 20;
// Each costs some 125 KB under TLS. When they are all taken, a new connection takes the place of
// one chosen by chance: whoever opens many cannot say whose.
constexpr size_t kMaxUnproved = 48;
constexpr auto kRefusalsPeriod = std::chrono::seconds(10);

tcp::acceptor listen(asio::io_context& context, const std::string& address, uint16_t port) {
  try {
    return {context, tcp::endpoint(asio::ip::make_address(address), port)};
  } catch (const boost::system::system_error& error) {
    throw ConfigError("cannot listen on " + address + " port " + std::to_string(port) + ": " +
                      error.code().message() + "; name an address of this machine with --listen");
  }
}

}  // namespace

struct ControlServer::State {
  State(asio::io_context& io, Options settings, Handlers callbacks)
      : context(io),
        acceptor(listen(io, settings.address, settings.port)),
        options(std::move(settings)),
        handlers(std::move(callbacks)) {}

  // One line now and then, however many there are.
  void note_refusal(const std::string& why) {
    ++counters.refused;
    ++refused_since_line;
    const auto now = std::chrono::steady_clock::now();
    if (last_line && now - *last_line < kRefusalsPeriod) return;
    spdlog::warn("control: refused {} connection{}, the last because: {}", refused_since_line,
                 refused_since_line == 1 ? "" : "s", why);
    last_line = now;
    refused_since_line = 0;
  }
  void make_room();

  asio::io_context& context;
  tcp::acceptor acceptor;
  Options options;
  Handlers handlers;
  Counters counters;
  std::set<std::shared_ptr<Session>> sessions;
  int64_t refused_since_line = 0;
  std::optional<std::chrono::steady_clock::time_point> last_line;
  std::minstd_rand dice{std::random_device{}()};
};

// One connection. run() proves the peer and then receives; send_all() sends what is queued.
class ControlServer::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<State> state, tcp::socket socket)
      : state_(std::move(state)),
        stream_(std::move(socket), state_->options.tls),
        deadline_(stream_.socket().get_executor()),
        send_timer_(stream_.socket().get_executor()),
        handshake_(state_->options.tokens) {}

  void start() {
    stream_.set_options();
    asio::co_spawn(
        stream_.socket().get_executor(),
        [self = shared_from_this()]() -> asio::awaitable<void> { co_await self->run(); },
        asio::detached);
  }

  void crowd_out() {
    crowded_out_ = true;
    proved_ = true;  // its place is taken
    close();
  }

  const PeerIdentity& identity() const { return identity_; }
  bool welcomed() const { return welcomed_; }
  bool proved() const { return proved_; }

  void send(MessageType type, const nlohmann::json& payload) {
    queue_.push_back(seal(type, payload));
    queued_bytes_ += queue_.back().size();
    if (queued_bytes_ > kMaxQueuedBytes) return close();  // it does not read
    send_timer_.cancel();
  }

  void close() {
    stream_.close();
    deadline_.cancel();
    send_timer_.cancel();
  }

 private:
  asio::awaitable<void> run() {
    try {
      expire_after(kTimeToProve);
      co_await stream_.accept_tls();
      co_await prove();
      co_await admit();
      welcome();
      co_await receive();
    } catch (const FrameError& error) {
      state_->note_refusal(error.what());
    } catch (const boost::system::system_error& error) {
      if (!welcomed_ && !crowded_out_) state_->note_refusal(error.code().message());
    }
    close();
    state_->sessions.erase(shared_from_this());
    if (welcomed_) state_->handlers.hung_up(identity_);
  }

  asio::awaitable<void> prove() {
    const Frame hello = co_await stream_.read_frame(reader_);
    const std::string challenge = encode_frame(handshake_.challenge(hello));
    co_await stream_.write(challenge);
    const Frame proof = co_await stream_.read_frame(reader_);
    handshake_.check(proof);
    proved_ = true;
    reader_.expect_seals(handshake_.keys().to_coordinator);
    const auto said = HelloMessage::decode(parse_payload(hello.payload));
    identity_ = {hello.generation, hello.rank, said.pid, said.host};
  }

  asio::awaitable<void> admit() {
    std::string refusal = state_->handlers.admit(identity_);
    if (refusal.empty() && is_full()) refusal = "too many connections";
    if (refusal.empty()) co_return;
    const std::string bytes = seal(RefusalMessage::kType, RefusalMessage{refusal}.encode());
    co_await stream_.write(bytes);
    throw FrameError(refusal);
  }

  bool is_full() const {
    int others = 0;
    for (const auto& other : state_->sessions) {
      if (other->welcomed_ && other->identity_.rank != identity_.rank) ++others;
    }
    return others >= state_->options.max_peers;
  }

  void welcome() {
    ++state_->counters.accepted;
    // A worker that reconnects before its old connection is noticed to be dead replaces it.
    for (const auto& other : state_->sessions) {
      if (other.get() != this && other->welcomed_ && other->identity_.rank == identity_.rank &&
          identity_.role() == Role::kWorker) {
        other->welcomed_ = false;
        other->close();
      }
    }
    welcomed_ = true;
    spdlog::debug("control: {} {} (pid {} of {}) connected", name_of(identity_.role()),
                  identity_.rank, identity_.pid, identity_.host.name);
    send(WelcomeMessage::kType, WelcomeMessage{}.encode());
    asio::co_spawn(
        stream_.socket().get_executor(),
        [self = shared_from_this()]() -> asio::awaitable<void> { co_await self->send_all(); },
        asio::detached);
    state_->handlers.joined(identity_);
  }

  asio::awaitable<void> receive() {
    while (true) {
      expire_after(kIdleLimit);
      const Frame frame = co_await stream_.read_frame(reader_);
      if (frame.generation != identity_.generation || frame.rank != identity_.rank) {
        throw FrameError("a frame of another rank or generation");
      }
      const auto payload = parse_payload(frame.payload);
      if (frame.type == MessageType::kStatus && identity_.role() != Role::kWorker) {
        send(MessageType::kStatus, state_->handlers.status());
      } else {
        state_->handlers.message(identity_, frame.type, payload);
      }
    }
  }

  asio::awaitable<void> send_all() {
    boost::system::error_code error;
    try {
      while (stream_.is_open()) {
        while (!queue_.empty()) {
          const std::string bytes = std::move(queue_.front());
          queue_.pop_front();
          co_await stream_.write(bytes);
          queued_bytes_ -= bytes.size();
        }
        // Until send() or close() cancels it; both run on this thread.
        send_timer_.expires_at(asio::steady_timer::time_point::max());
        co_await send_timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
      }
    } catch (const boost::system::system_error&) {
      close();
    }
  }

  std::string seal(MessageType type, const nlohmann::json& payload) {
    const Frame frame{type, identity_.generation, identity_.rank, next_sequence_++,
                      json_text(payload)};
    return encode_frame(frame, &handshake_.keys().to_worker);
  }

  void expire_after(std::chrono::seconds time) {
    deadline_.expires_after(time);
    deadline_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      if (auto self = weak.lock(); self && !error) self->close();
    });
  }

  std::shared_ptr<State> state_;
  ControlStream stream_;
  asio::steady_timer deadline_;
  asio::steady_timer send_timer_;
  CoordinatorHandshake handshake_;
  FrameReader reader_;
  PeerIdentity identity_;
  bool proved_ = false;
  bool welcomed_ = false;
  bool crowded_out_ = false;
  uint64_t next_sequence_ = 0;
  std::deque<std::string> queue_;
  size_t queued_bytes_ = 0;
};

void ControlServer::State::make_room() {
  std::vector<std::shared_ptr<Session>> unproved;
  for (const auto& session : sessions) {
    if (!session->proved()) unproved.push_back(session);
  }
  if (unproved.size() < kMaxUnproved) return;
  ++counters.crowded_out;
  unproved[dice() % unproved.size()]->crowd_out();
}

ControlServer::ControlServer(asio::io_context& context, Options options, Handlers handlers)
    : state_(std::make_shared<State>(context, std::move(options), std::move(handlers))) {
  asio::co_spawn(context, accept(state_), asio::detached);
}

asio::awaitable<void> ControlServer::accept(std::shared_ptr<State> state) {
  while (state->acceptor.is_open()) {
    boost::system::error_code error;
    tcp::socket socket =
        co_await state->acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted) co_return;
    if (error) continue;
    state->make_room();
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
    if (session->welcomed() && session->identity().role() == Role::kWorker &&
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

std::string listen_address(const std::string& text, bool has_tls) {
  boost::system::error_code error;
  asio::ip::address address = asio::ip::make_address(text, error);
  if (error) {
    asio::io_context context;
    const auto found = tcp::resolver(context).resolve(text, "", error);
    if (error || found.empty()) {
      throw ConfigError("--listen " + text + ": no such address or name (" + error.message() + ")");
    }
    address = found.begin()->endpoint().address();
  }
  if (!address.is_loopback() && !has_tls) {
    throw ConfigError("--listen " + text +
                      ": beyond this machine the control channel needs TLS; make a certificate "
                      "once with `espalier certificate FOLDER` and add --tls FOLDER");
  }
  return address.to_string();
}

}  // namespace espalier
