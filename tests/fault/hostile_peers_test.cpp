// A coordinator that trains, and everything that may knock at its ports without being asked: on
// loopback, with and without TLS. The training must not notice.

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <nlohmann/json.hpp>

#include "fault/program.h"
#include "launch/protocol/coordinator_address.h"
#include "launch/protocol/handshake.h"
#include "launch/protocol/tls.h"
#include "launch/status/coordinator_client.h"

namespace espalier {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using asio::ip::tcp;
using nlohmann::json;

constexpr double kPatience_s = 600;
constexpr int64_t kGrowthLimit_KiB = 10 * 1024;

int64_t resident_KiB(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6));
  }
  return 0;
}

class HostilePeers : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("hostile-" + std::to_string(::getpid()));
    fs::create_directories(root_);
    std::vector<std::string> command = {ESPALIER_PROGRAM,
                                        "launch",
                                        std::string(ESPALIER_SOURCE_DIR) + "/tests/fault/tiny.toml",
                                        "-n",
                                        "2",
                                        "--set",
                                        "run.directory=" + run().string(),
                                        "--set",
                                        "stage.codes.steps=1000000"};
    if (GetParam()) {
      make_certificate(root_ / "tls", {});
      command.insert(command.end(), {"--tls", root_ / "tls"});
    }
    program_ = std::make_unique<Program>(command, root_ / "output.txt");
    ASSERT_TRUE(eventually(kPatience_s, [&] { return trained_steps(run()) >= 10; }))
        << program_->output();
    address_ = CoordinatorAddress::load(run() / "coordinator.json");
    status();  // what is made once for the first connection is no growth
    resident_ = resident_KiB(address_.pid);
    step_ = trained_steps(run());
  }
  void TearDown() override {
    program_.reset();
    fs::remove_all(root_);
  }

  fs::path run() const { return root_ / "run"; }
  json status() const { return json::parse(fetch_status(run())); }

  tcp::socket connect(uint16_t port) {
    tcp::socket socket(context_);
    socket.connect({asio::ip::address_v4::loopback(), port});
    return socket;
  }
  // Whether the other side closes within five seconds and a little, whatever it says before.
  static bool is_closed(tcp::socket& socket) {
    const timeval limit{6, 500'000};
    ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    char piece[4096];
    ssize_t got = 0;
    while ((got = ::recv(socket.native_handle(), piece, sizeof(piece), 0)) > 0) continue;
    return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }
  bool refuses(const std::string& bytes) {
    tcp::socket socket = connect(address_.control_port);
    boost::system::error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
    return is_closed(socket);
  }
  // The same behind a TLS handshake, where there is TLS.
  bool refuses_behind_tls(const std::string& bytes) {
    if (!GetParam()) return refuses(bytes);
    const TlsContext tls = tls_of_peer(address_.certificate);
    asio::ssl::stream<tcp::socket> stream(connect(address_.control_port), *tls);
    stream.handshake(asio::ssl::stream_base::client);
    boost::system::error_code ignored;
    asio::write(stream, asio::buffer(bytes), ignored);
    return is_closed(stream.next_layer());
  }

  void expect_training_did_not_notice() {
    ASSERT_TRUE(eventually(60, [&] { return trained_steps(run()) > step_ + 5; }));
    const json now = status();
    EXPECT_EQ(now["generation"], 1);
    EXPECT_EQ(now["restarts"], 0);
    const std::string events = read_text(run() / "events.jsonl");
    EXPECT_EQ(events.find("suspect"), std::string::npos) << events;
    EXPECT_EQ(events.find("failure"), std::string::npos) << events;
    const int64_t grown = resident_KiB(address_.pid) - resident_;
    std::printf("the coordinator grew by %lld KiB\n", static_cast<long long>(grown));
    EXPECT_LT(grown, kGrowthLimit_KiB);
  }

  asio::io_context context_;
  fs::path root_;
  std::unique_ptr<Program> program_;
  CoordinatorAddress address_;
  int64_t resident_ = 0;
  int64_t step_ = 0;
};

TEST_P(HostilePeers, WithoutATokenOrWithAWrongOneAreRefused) {
  WorkerHandshake stranger(random_key(), 1, 0, HelloMessage{});
  const std::string hello = encode_frame(stranger.hello());
  const Frame guess{MessageType::kProof, 1, 0, 1, json{{"proof", to_hex(random_key())}}.dump()};
  EXPECT_TRUE(refuses_behind_tls(hello + encode_frame(guess)));
  EXPECT_TRUE(refuses_behind_tls(encode_frame({MessageType::kStop, 1, kOperatorRank, 0, "{}"})));
  EXPECT_TRUE(refuses_behind_tls(encode_frame({MessageType::kBeat, 1, 0, 0, "{}"})));
  EXPECT_GE(status()["refused_connections"], 3);
  expect_training_did_not_notice();
}

TEST_P(HostilePeers, ThatSendAnythingButFramesAreRefused) {
  std::minstd_rand random(7);
  for (int i = 0; i < 500; ++i) {
    std::string noise(1 + random() % 2000, '\0');
    for (char& byte : noise) byte = static_cast<char>(random());
    noise[0] = 'x';  // not a frame's first byte: refused at once
    EXPECT_TRUE(i % 2 == 0 ? refuses(noise) : refuses_behind_tls(noise + std::string(24, 'x')));
  }
  EXPECT_TRUE(refuses("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  std::string huge = encode_frame({MessageType::kHello, 1, 0, 0, ""});
  huge.replace(20, 4, "\xff\xff\xff\xff");
  EXPECT_TRUE(refuses_behind_tls(huge));
  const std::string deep(1000, '[');
  EXPECT_TRUE(refuses_behind_tls(encode_frame({MessageType::kHello, 1, 0, 0, deep})));
  expect_training_did_not_notice();
}

TEST_P(HostilePeers, ThatWaitForEverCannotKeepThePlacesAndAreSentAway) {
  std::vector<tcp::socket> sleepers;
  for (int i = 0; i < 1000; ++i) {
    sleepers.push_back(connect(address_.control_port));
    if (i % 3 != 0) continue;  // a third say the first letters of a frame
    boost::system::error_code gone;
    asio::write(sleepers.back(), asio::buffer("ES\x02", 3), gone);
  }
  status();  // a reader comes through
  EXPECT_TRUE(is_closed(sleepers.back()));
  EXPECT_TRUE(is_closed(sleepers.front()));
  expect_training_did_not_notice();
}

TEST_P(HostilePeers, ThatPlayBackWhatTheyHeardAreRefused) {
  const SecretKey token = load_token(token_path(address_.tokens, Role::kReader));
  WorkerHandshake reader(token, 0, kReaderRank, HelloMessage{::getpid()});
  CoordinatorHandshake other({random_key(), random_key(), token});
  const Frame proof = reader.answer(other.challenge(reader.hello()));
  EXPECT_TRUE(refuses_behind_tls(encode_frame(reader.hello()) + encode_frame(proof)));
  expect_training_did_not_notice();
}

TEST_P(HostilePeers, ThatKnowOnlyOldTlsAreRefused) {
  if (!GetParam()) return;  // this one speaks no TLS at all: ThatSendAnythingButFramesAreRefused
  asio::ssl::context old(asio::ssl::context::tlsv12_client);
  asio::ssl::stream<tcp::socket> stream(connect(address_.control_port), old);
  boost::system::error_code error;
  stream.handshake(asio::ssl::stream_base::client, error);
  EXPECT_TRUE(error);
  expect_training_did_not_notice();
}

INSTANTIATE_TEST_SUITE_P(Coordinator, HostilePeers, testing::Bool(),
                         [](const auto& tls) { return tls.param ? "Tls" : "Plain"; });

}  // namespace
}  // namespace espalier
