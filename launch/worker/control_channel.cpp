#include "launch/worker/control_channel.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <fstream>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "launch/protocol/handshake.h"
#include "trainer/record/step_report.h"

namespace espalier {
namespace asio = boost::asio;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

namespace {
constexpr auto kBeatPeriod = std::chrono::seconds(1);
constexpr auto kMetricsPeriod = std::chrono::milliseconds(500);
constexpr auto kTimeToConnect = std::chrono::seconds(5);
constexpr auto kTimeForBye = std::chrono::seconds(2);
constexpr double kFirstRetry_s = 0.1;
constexpr double kLongestRetry_s = 5;
}  // namespace

class ControlChannel::Connection {
 public:
  explicit Connection(const ControlChannelOptions& options)
      : options_(options), socket_(context_), timer_(context_), beat_timer_(context_) {
    asio::co_spawn(
        context_, [this]() -> asio::awaitable<void> { co_await live(); }, asio::detached);
    // Signals are for the training thread.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { context_.run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~Connection() {
    context_.stop();
    thread_.join();
  }

  // ---- called from any thread -------------------------------------------------------------------
  void set_phase(std::string_view phase) {
    const std::lock_guard lock(mutex_);
    phase_ = phase;
    work_.reset();
  }

  void set_work(const WorkReport& report) {
    const std::lock_guard lock(mutex_);
    work_ = report;
  }

  void set_step(const StepReport& report) {
    const std::lock_guard lock(mutex_);
    step_ = report.global_step;
    if (options_.rank != 0) return;
    const auto now = Clock::now();
    const bool last = report.step == report.stage_steps;
    if (now - last_metrics_ < kMetricsPeriod && !last) return;
    last_metrics_ = now;
    metrics_ = to_json(report);
  }

  void send(MessageType type, nlohmann::json payload) {
    {
      const std::lock_guard lock(mutex_);
      queue_.emplace_back(type, std::move(payload));
    }
    asio::post(context_, [this] { pump(); });
  }

  bool stop() const { return stop_; }
  int rank() const { return options_.rank; }

  bool approve(int64_t step) {
    std::unique_lock lock(mutex_);
    preparing_ = step;
    queue_.emplace_back(MessageType::kCkptPrepared, nlohmann::json{{"step", step}});
    asio::post(context_, [this] { pump(); });
    changed_.wait(lock, [&] { return allowed_step_ >= step || refused_ || gone_; });
    preparing_.reset();
    return !refused_;
  }

  void finish(int exit_code) {
    send(MessageType::kBye, {{"exit_code", exit_code}});
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kTimeForBye,
                      [&] { return (queue_.empty() && !writing_) || refused_ || gone_; });
  }

 private:
  // ---- the channel's own thread -----------------------------------------------------------------
  asio::awaitable<void> live() {
    std::minstd_rand jitter(static_cast<unsigned>(::getpid()));
    auto away_since = Clock::now();
    double retry_s = kFirstRetry_s;
    while (true) {
      try {
        co_await connect();
        retry_s = kFirstRetry_s;
        co_await listen();
      } catch (const std::exception& error) {
        if (connected_) {
          spdlog::warn("lost the coordinator ({}); training goes on", error.what());
          away_since = Clock::now();
        }
      }
      hang_up();
      if (refused_) co_return;
      if (Clock::now() - away_since > std::chrono::duration<double>(options_.grace_s)) {
        if (!gone_) spdlog::warn("the coordinator is gone; writing a checkpoint and stopping");
        const std::lock_guard lock(mutex_);
        gone_ = true;
        stop_ = true;
        changed_.notify_all();
      }
      const double factor = 0.5 + std::generate_canonical<double, 20>(jitter);
      timer_.expires_after(std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(retry_s * factor)));
      co_await timer_.async_wait(asio::use_awaitable);
      retry_s = std::min(2 * retry_s, kLongestRetry_s);
    }
  }

  asio::awaitable<void> connect() {
    // The address may have changed: a coordinator that was started again has other ports.
    std::ifstream file(options_.address_file);
    const auto address = nlohmann::json::parse(file);
    const SecretKey token = load_token(address.at("token_file").get<std::string>());
    const tcp::endpoint endpoint(asio::ip::make_address(address.at("host").get<std::string>()),
                                 address.at("control_port").get<uint16_t>());
    timer_.expires_after(kTimeToConnect);
    timer_.async_wait([this](boost::system::error_code error) {
      boost::system::error_code ignored;
      if (!error) socket_.close(ignored);
    });
    reader_ = FrameReader();
    co_await socket_.async_connect(endpoint, asio::use_awaitable);
    socket_.set_option(tcp::no_delay(true));

    WorkerHandshake handshake(token, options_.generation, static_cast<uint32_t>(options_.rank),
                              {{"pid", ::getpid()}});
    co_await write(encode_frame(handshake.hello()));
    co_await write(encode_frame(handshake.answer(co_await read())));
    reader_.expect_seals(handshake.keys().to_worker);
    key_ = handshake.keys().to_coordinator;
    next_sequence_ = 0;
    handle(co_await read());
    timer_.cancel();
    if (refused_) throw FrameError("this generation is over");
    connected_ = true;
    {
      const std::lock_guard lock(mutex_);
      // Asked again: the answer, or the question, may have been lost with the old connection.
      if (preparing_) {
        queue_.emplace_front(MessageType::kCkptPrepared, nlohmann::json{{"step", *preparing_}});
      }
    }
    beat();
  }

  asio::awaitable<void> listen() {
    while (!refused_) handle(co_await read());
  }

  void handle(const Frame& frame) {
    if (frame.generation != options_.generation) throw FrameError("a frame of another generation");
    const auto payload = parse_payload(frame.payload);
    const std::lock_guard lock(mutex_);
    if (frame.type == MessageType::kStop) {
      if (!stop_) spdlog::info("asked to stop: {}", payload.value("why", std::string()));
      stop_ = true;
    } else if (frame.type == MessageType::kCkptCommit) {
      allowed_step_ = std::max(allowed_step_, payload.value("step", int64_t{-1}));
    } else if (frame.type == MessageType::kBye) {
      spdlog::error("refused by the coordinator: {}", payload.value("why", std::string()));
      refused_ = true;
      stop_ = true;
    }
    changed_.notify_all();
  }

  void beat() {
    if (!connected_) return;
    {
      const std::lock_guard lock(mutex_);
      nlohmann::json beat = {{"step", step_}, {"phase", std::string(phase_)}};
      if (work_) {
        beat["work"] = {
            {"what", std::string(work_->what)}, {"done", work_->done}, {"total", work_->total}};
      }
      queue_.emplace_back(MessageType::kBeat, std::move(beat));
      if (!metrics_.is_null()) {
        queue_.emplace_back(MessageType::kMetrics, std::exchange(metrics_, nullptr));
      }
    }
    pump();
    beat_timer_.expires_after(kBeatPeriod);
    beat_timer_.async_wait([this](boost::system::error_code error) {
      if (!error) beat();
    });
  }

  // Seals and sends the next queued message. One that fails stays queued for the next connection.
  void pump() {
    if (!connected_ || writing_) return;
    {
      const std::lock_guard lock(mutex_);
      if (queue_.empty()) return;
      const Frame frame{queue_.front().first, options_.generation,
                        static_cast<uint32_t>(options_.rank), next_sequence_++,
                        queue_.front().second.dump()};
      outgoing_ = encode_frame(frame, &key_);
      writing_ = true;
    }
    asio::async_write(socket_, asio::buffer(outgoing_),
                      [this](boost::system::error_code error, size_t) {
                        {
                          const std::lock_guard lock(mutex_);
                          writing_ = false;
                          if (!error) queue_.pop_front();
                          changed_.notify_all();
                        }
                        if (!error) pump();
                      });
  }

  void hang_up() {
    connected_ = false;
    boost::system::error_code ignored;
    socket_.close(ignored);
    beat_timer_.cancel();
    const std::lock_guard lock(mutex_);
    // Old beats are of no use to the next connection. The front one may be on its way out still.
    const auto first = queue_.begin() + (writing_ ? 1 : 0);
    queue_.erase(std::remove_if(first, queue_.end(),
                                [](const auto& m) { return m.first == MessageType::kBeat; }),
                 queue_.end());
    if (refused_) changed_.notify_all();
  }

  asio::awaitable<void> write(std::string bytes) {
    co_await asio::async_write(socket_, asio::buffer(bytes), asio::use_awaitable);
  }

  asio::awaitable<Frame> read() {
    std::array<char, 4096> piece;
    while (true) {
      if (auto frame = reader_.next()) co_return std::move(*frame);
      const size_t count =
          co_await socket_.async_read_some(asio::buffer(piece), asio::use_awaitable);
      reader_.append({piece.data(), count});
    }
  }

  const ControlChannelOptions options_;
  asio::io_context context_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  asio::steady_timer beat_timer_;
  FrameReader reader_;
  SecretKey key_{};
  uint64_t next_sequence_ = 0;
  bool connected_ = false;
  std::string outgoing_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::pair<MessageType, nlohmann::json>> queue_;
  bool writing_ = false;
  int64_t step_ = -1;
  std::string_view phase_ = "setup";
  std::optional<WorkReport> work_;  // within the phase
  nlohmann::json metrics_;
  Clock::time_point last_metrics_{};
  std::optional<int64_t> preparing_;
  int64_t allowed_step_ = -1;
  bool refused_ = false;  // a newer generation took over
  bool gone_ = false;     // nobody was there for longer than the grace
  std::atomic<bool> stop_ = false;

  std::thread thread_;  // last: it uses all of the above
};

ControlChannel::ControlChannel(const ControlChannelOptions& options)
    : connection_(std::make_unique<Connection>(options)) {}

ControlChannel::~ControlChannel() = default;

void ControlChannel::on_phase(std::string_view phase) { connection_->set_phase(phase); }

void ControlChannel::on_work(const WorkReport& report) { connection_->set_work(report); }

void ControlChannel::on_step(const StepReport& report) { connection_->set_step(report); }

bool ControlChannel::stop_requested() { return connection_->stop(); }

bool ControlChannel::approve_commit(int64_t global_step) {
  return connection_->approve(global_step);
}

void ControlChannel::on_committed(int64_t global_step) {
  if (connection_->rank() != 0) return;
  connection_->send(MessageType::kCkptCommitted, {{"step", global_step}});
}

void ControlChannel::report_error(const std::string& failure_class, const std::string& what) {
  connection_->send(MessageType::kErrorReport, {{"class", failure_class}, {"what", what}});
}

void ControlChannel::finish(int exit_code) { connection_->finish(exit_code); }

}  // namespace espalier
