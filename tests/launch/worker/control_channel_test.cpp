#include "launch/worker/control_channel.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>

#include "launch/coordinator/control_server.h"
#include "launch/coordinator/rank_messages.h"
#include "launch/protocol/coordinator_address.h"
#include "launch/protocol/handshake.h"
#include "launch/protocol/tls.h"
#include "launch/protocol/token.h"
#include "launch/status/coordinator_client.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A coordinator's listening half, with a thread of its own.
class Server {
 public:
  Server(const fs::path& directory, uint32_t generation, const fs::path& tls_folder = {})
      : control_(context_, options(directory, tls_folder),
                 {[generation](const PeerIdentity& peer) {
                    const bool is_fine =
                        peer.role() != Role::kWorker || peer.generation == generation;
                    return std::string(is_fine ? "" : "is over");
                  },
                  [this](const PeerIdentity&) { ++joins; },
                  [this](const PeerIdentity& peer, MessageType type, const json& payload) {
                    event_of(peer, type, payload);
                    const std::lock_guard lock(mutex_);
                    messages_.emplace_back(type, payload);
                    if (type == MessageType::kCkptPrepared && allow_commits) {
                      const int64_t step = CheckpointPreparedMessage::decode(payload).step;
                      control_.send(static_cast<int>(peer.rank), CheckpointCommitMessage{step});
                    }
                  },
                  [this](const PeerIdentity&) { ++hang_ups; },
                  [] {
                    return json{{"state", "RUNNING"}};
                  }}),
        port_(control_.port()) {
    CoordinatorAddress address;
    address.control_port = port_;
    address.tokens = directory / "tokens";
    if (!tls_folder.empty()) address.certificate = read_text(tls_folder / "certificate.pem");
    std::ofstream(directory / "coordinator.json") << address.text();
    thread_ = std::thread([this] { context_.run(); });
  }
  ~Server() {
    boost::asio::post(context_, [this] {
      control_.close();
      guard_.reset();
    });
    thread_.join();
  }

  template <class Message>
  void send(const Message& message) {
    boost::asio::post(context_, [this, message] { control_.send(/*rank=*/-1, message); });
  }
  int64_t refused() {
    std::atomic<int64_t> count = -1;
    boost::asio::post(context_, [&] { count = control_.counters().refused; });
    while (count < 0) std::this_thread::yield();
    return count;
  }
  json find(MessageType type) {
    const std::lock_guard lock(mutex_);
    for (const auto& [t, payload] : messages_) {
      if (t == type) return payload;
    }
    return nullptr;
  }
  bool got(MessageType type) {
    return eventually([&] { return !find(type).is_null(); });
  }
  uint16_t port() const { return port_; }

  std::atomic<int> joins = 0;
  std::atomic<int> hang_ups = 0;
  std::atomic<bool> allow_commits = true;

 private:
  static ControlServer::Options options(const fs::path& directory, const fs::path& tls_folder) {
    ControlServer::Options out;
    out.tokens = load_or_create_tokens(directory / "tokens");
    if (!tls_folder.empty()) out.tls = tls_of_coordinator(CertificateFiles(tls_folder));
    return out;
  }

  boost::asio::io_context context_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{
      context_.get_executor()};
  std::mutex mutex_;
  std::vector<std::pair<MessageType, json>> messages_;
  ControlServer control_;
  uint16_t port_;
  std::thread thread_;
};

class ControlChannelTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::path(testing::TempDir()) / ("channel-" + std::to_string(::getpid()));
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }
  ControlChannel::Options options(double grace_s = 60) const {
    ControlChannel::Options out;
    out.address_file = directory_ / "coordinator.json";
    out.generation = 3;
    out.grace_s = grace_s;
    return out;
  }
  fs::path directory_;
};

TEST_F(ControlChannelTest, BeatsWithStepAndPhaseAndReportsNumbers) {
  Server server(directory_, 3);
  ControlChannel channel(options());
  channel.on_phase(Phase::kReduce);
  StepReport report;
  report.stage = "tokenizer";
  report.global_step = 7;
  report.losses = {{"pixel", 0.5}};
  channel.on_step(report);
  ASSERT_TRUE(server.got(MessageType::kMetrics));
  ASSERT_TRUE(server.got(MessageType::kBeat));
  EXPECT_EQ(server.find(MessageType::kMetrics)["losses"]["pixel"], 0.5);
  EXPECT_TRUE(eventually([&] {
    const json beat = server.find(MessageType::kBeat);
    return beat["phase"] == "reduce" || beat["phase"] == "setup";
  }));
}

TEST_F(ControlChannelTest, PassesAStopOn) {
  Server server(directory_, 3);
  ControlChannel channel(options());
  ASSERT_TRUE(eventually([&] { return server.joins == 1; }));
  EXPECT_FALSE(channel.stop_requested());
  server.send(StopMessage{"test"});
  EXPECT_TRUE(eventually([&] { return channel.stop_requested(); }));
}

TEST_F(ControlChannelTest, HoldsACommitBackUntilTheCoordinatorAllowsIt) {
  Server server(directory_, 3);
  server.allow_commits = false;
  ControlChannel channel(options());
  std::atomic<bool> approved = false;
  std::thread writer([&] { approved = channel.approve_commit(40); });
  ASSERT_TRUE(server.got(MessageType::kCkptPrepared));
  EXPECT_FALSE(approved);
  server.send(CheckpointCommitMessage{40});
  writer.join();
  EXPECT_TRUE(approved);
}

TEST_F(ControlChannelTest, RefusesTheCommitOfAnOldGenerationAndStopsIt) {
  Server server(directory_, 4);
  ControlChannel channel(options());
  EXPECT_FALSE(channel.approve_commit(40));
  EXPECT_TRUE(channel.stop_requested());
  EXPECT_EQ(server.joins, 0);
}

TEST_F(ControlChannelTest, FindsACoordinatorThatCameBackElsewhereAndAsksAgain) {
  auto first = std::make_unique<Server>(directory_, 3);
  first->allow_commits = false;
  ControlChannel channel(options());
  std::atomic<bool> approved = false;
  std::thread writer([&] { approved = channel.approve_commit(40); });
  ASSERT_TRUE(first->got(MessageType::kCkptPrepared));
  first.reset();
  EXPECT_FALSE(channel.stop_requested());
  Server second(directory_, 3);
  writer.join();
  EXPECT_TRUE(approved);
  EXPECT_EQ(second.find(MessageType::kCkptPrepared)["step"], 40);
}

TEST_F(ControlChannelTest, StopsWithACheckpointWhenTheCoordinatorIsGoneForGood) {
  std::ofstream(directory_ / "coordinator.json") << "{}";
  ControlChannel channel(options(0.3));
  EXPECT_FALSE(channel.stop_requested());
  EXPECT_TRUE(channel.approve_commit(40));
  EXPECT_TRUE(channel.stop_requested());
}

TEST_F(ControlChannelTest, DeliversErrorsAndByeBeforeItEnds) {
  Server server(directory_, 3);
  {
    ControlChannel channel(options());
    channel.report_error(FailureClass::kData, "shard 3 is torn");
    channel.finish(kExitUsage);
  }
  ASSERT_TRUE(eventually([&] { return server.hang_ups == 1; }));  // all was read before
  EXPECT_EQ(server.find(MessageType::kErrorReport)["what"], "shard 3 is torn");
  EXPECT_EQ(server.find(MessageType::kBye)["exit_code"], kExitUsage);
}

TEST_F(ControlChannelTest, IsNotDisturbedByStrangersThatAreRefused) {
  Server server(directory_, 3);
  ControlChannel channel(options());
  ASSERT_TRUE(eventually([&] { return server.joins == 1; }));
  const auto talk = [&](const std::string& text) {
    boost::asio::ip::tcp::iostream stream("127.0.0.1", std::to_string(server.port()));
    stream << text << std::flush;
    return std::string{std::istreambuf_iterator<char>(stream), {}};
  };
  EXPECT_EQ(talk("GET / HTTP/1.1\r\n\r\n"), "");
  EXPECT_EQ(talk(encode_frame({MessageType::kStop, 3, 0, 0, R"({"why":"x"})"})), "");
  std::string huge = encode_frame({MessageType::kHello, 3, 0, 0, ""});
  huge.replace(20, 4, "\x7f\xff\xff\xff");
  EXPECT_EQ(talk(huge), "");
  WorkerHandshake stranger(random_key(), 3, 0, HelloMessage{});
  talk(encode_frame(stranger.hello()) +
       encode_frame({MessageType::kProof, 3, 0, 1, json{{"proof", to_hex(random_key())}}.dump()}));
  EXPECT_TRUE(eventually([&] { return server.refused() == 4; }));
  EXPECT_FALSE(channel.stop_requested());
  EXPECT_EQ(server.joins, 1);
  EXPECT_EQ(server.hang_ups, 0);
}

TEST_F(ControlChannelTest, FillsNoLogForStrangersThatAreRefused) {
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  {
    Server server(directory_, 3);
    for (int i = 0; i < 300; ++i) {
      boost::asio::ip::tcp::iostream("127.0.0.1", std::to_string(server.port()))
          << "GET / HTTP/1.1";
    }
    EXPECT_TRUE(eventually([&] { return server.refused() == 300; }));
  }
  spdlog::set_default_logger(before);
  const std::string lines = log.str();
  const auto count = std::count(lines.begin(), lines.end(), '\n');
  EXPECT_TRUE(count >= 1 && count <= 5) << lines;
}

// A rank's handshake by hand, and then one frame that no rank of this program would send.
std::string answer_to_a_beat(uint16_t port, const SecretKey& token, const json& payload) {
  boost::asio::ip::tcp::iostream stream("127.0.0.1", std::to_string(port));
  WorkerHandshake handshake(token, 3, 1, HelloMessage{::getpid()});
  FrameReader reader;
  const auto next = [&] {
    while (true) {
      if (auto frame = reader.next()) return *frame;
      char byte = 0;
      if (!stream.get(byte)) throw FrameError("hung up");
      reader.append({&byte, 1});
    }
  };
  stream << encode_frame(handshake.hello()) << std::flush;
  const Frame proof = handshake.answer(next());
  stream << encode_frame(proof) << std::flush;
  reader.expect_seals(handshake.keys().to_worker);
  if (next().type != MessageType::kWelcome) throw FrameError("not welcome");
  const Frame beat{MessageType::kBeat, 3, 1, 0, payload.dump()};
  stream << encode_frame(beat, &handshake.keys().to_coordinator) << std::flush;
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST_F(ControlChannelTest, IsClosedByTheCoordinatorOnAPhaseThatDoesNotExist) {
  Server server(directory_, 3);
  const SecretKey token = load_token(directory_ / "tokens/worker");
  EXPECT_EQ(answer_to_a_beat(server.port(), token, {{"step", 4}, {"phase", "lunch"}}), "");
  EXPECT_TRUE(eventually([&] { return server.hang_ups == 1; }));
  EXPECT_EQ(server.refused(), 1);
  EXPECT_TRUE(server.find(MessageType::kBeat).is_null());
}

TEST_F(ControlChannelTest, TellsTheRankThatItsGenerationIsOver) {
  Server server(directory_, 4);
  auto old = options();
  std::promise<std::string> why;
  old.on_over = [&](const std::string& text) { why.set_value(text); };
  ControlChannel channel(old);
  EXPECT_EQ(why.get_future().get(), "is over");
}

TEST_F(ControlChannelTest, TellsTheRankToEndWhenTheCoordinatorSaysSo) {
  Server server(directory_, 3);
  auto mine = options();
  std::promise<std::string> why;
  mine.on_over = [&](const std::string& text) { why.set_value(text); };
  ControlChannel channel(mine);
  ASSERT_TRUE(eventually([&] { return server.joins == 1; }));
  server.send(EndMessage{"the launcher has ended"});
  EXPECT_EQ(why.get_future().get(), "the launcher has ended");
}

TEST_F(ControlChannelTest, WorksOverTls) {
  make_certificate(directory_ / "tls", {"head", "10.1.2.3"});
  Server server(directory_, 3, directory_ / "tls");
  ControlChannel channel(options());
  EXPECT_TRUE(server.got(MessageType::kBeat));
  EXPECT_TRUE(channel.approve_commit(40));
}

TEST_F(ControlChannelTest, ShowsAReaderTheStatusAndAnOperatorMayStop) {
  make_certificate(directory_ / "tls", {});
  Server server(directory_, 3, directory_ / "tls");
  EXPECT_EQ(json::parse(fetch_status(directory_))["state"], "RUNNING");
  request_stop(directory_, "enough");
  EXPECT_TRUE(server.got(MessageType::kStop));
}

TEST_F(ControlChannelTest, GivesNoRoleToTheTokenOfAnother) {
  Server server(directory_, 3);
  EXPECT_THROW(request_stop(directory_, "x", directory_ / "tokens/reader"), ConfigError);
  EXPECT_THROW(request_stop(directory_, "x", directory_ / "tokens/worker"), ConfigError);
  EXPECT_THROW(fetch_status(directory_, directory_ / "tokens/operator"), ConfigError);
  EXPECT_TRUE(server.find(MessageType::kStop).is_null());
}

TEST_F(ControlChannelTest, DoesNotTalkToAServerThatShowsAnotherCertificate) {
  make_certificate(directory_ / "tls", {});
  make_certificate(directory_ / "other", {});
  Server server(directory_, 3, directory_ / "tls");
  CoordinatorAddress address = CoordinatorAddress::load(directory_ / "coordinator.json");
  address.certificate = read_text(directory_ / "other/certificate.pem");
  std::ofstream(directory_ / "coordinator.json") << address.text();
  EXPECT_THROW(fetch_status(directory_), ConfigError);
}

TEST_F(ControlChannelTest, SpeaksNoTlsBefore13) {
  make_certificate(directory_ / "tls", {});
  Server server(directory_, 3, directory_ / "tls");
  boost::asio::io_context context;
  namespace ssl = boost::asio::ssl;
  ssl::context old(ssl::context::tlsv12_client);
  ssl::stream<boost::asio::ip::tcp::socket> stream(context, old);
  stream.lowest_layer().connect({boost::asio::ip::address_v4::loopback(), server.port()});
  boost::system::error_code error;
  stream.handshake(ssl::stream_base::client, error);
  EXPECT_TRUE(error);
}

TEST_F(ControlChannelTest, LetsARankInWhileStrangersHoldEveryPlace) {
  Server server(directory_, 3);
  boost::asio::io_context context;
  std::vector<boost::asio::ip::tcp::socket> strangers;
  for (int i = 0; i < 300; ++i) {  // they say nothing, and are let wait for five seconds
    auto& stranger = strangers.emplace_back(context);
    stranger.connect({boost::asio::ip::address_v4::loopback(), server.port()});
  }
  ControlChannel channel(options());
  EXPECT_TRUE(server.got(MessageType::kBeat));
  EXPECT_EQ(server.joins, 1);
}

}  // namespace
}  // namespace espalier
