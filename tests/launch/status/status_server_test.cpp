#include "launch/status/status_server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

namespace espalier {
namespace {

const StatusSource kStatus = [] { return std::string(R"({"state":"RUNNING"})"); };

unsigned code(const std::string& method, const std::string& target, const std::string& host) {
  return answer_status_request({method, target, host}, kStatus).code;
}

TEST(StatusRequest, IsAnsweredWithThePageOrTheJson) {
  EXPECT_EQ(answer_status_request({"GET", "/status.json", "localhost:8080"}, kStatus).body,
            kStatus());
  EXPECT_NE(
      answer_status_request({"GET", "/", "127.0.0.1:1"}, kStatus).body.find("<!doctype html>"),
      std::string::npos);
  EXPECT_EQ(code("GET", "/../token", "localhost"), 404u);
}

TEST(StatusRequest, IsRefusedWhenItIsNotARead) {
  EXPECT_EQ(code("POST", "/status.json", "localhost"), 405u);
  EXPECT_EQ(code("DELETE", "/", "localhost"), 405u);
}

TEST(StatusRequest, IsRefusedForSeveralHostsAndForNone) {
  for (const size_t hosts : {0U, 2U}) {
    EXPECT_EQ(answer_status_request({"GET", "/", "localhost", hosts}, kStatus).code, 400u);
  }
}

TEST(StatusRequest, IsRefusedForAForeignHost) {
  EXPECT_EQ(code("GET", "/", "evil.example"), 403u);
  EXPECT_EQ(code("GET", "/", "127.0.0.1.evil.example:80"), 403u);
  EXPECT_EQ(code("GET", "/", ""), 403u);
  EXPECT_EQ(code("GET", "/", "[::1]:80"), 200u);
}

class StatusServerTest : public testing::Test {
 protected:
  ~StatusServerTest() override {
    context_.stop();
    thread_.join();
  }
  std::string reply_to(const std::string& request) const {
    boost::asio::ip::tcp::iostream stream("127.0.0.1", std::to_string(server_.port()));
    stream << request << std::flush;
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  boost::asio::io_context context_;
  StatusServer server_{context_, kStatus};
  std::thread thread_{[this] { context_.run(); }};
};

TEST_F(StatusServerTest, AnswersOverASocket) {
  const std::string reply = reply_to("GET /status.json HTTP/1.0\r\nHost: localhost\r\n\r\n");
  EXPECT_TRUE(reply.starts_with("HTTP/1.0 200"));
  EXPECT_TRUE(reply.ends_with(kStatus()));
}

TEST_F(StatusServerTest, RefusesTwoHosts) {
  const std::string reply =
      reply_to("GET / HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n");
  EXPECT_TRUE(reply.starts_with("HTTP/1.0 400")) << reply;
}

// Each may be silent for ten seconds before it is sent away.
TEST_F(StatusServerTest, AnswersAtOnceWhileOthersHoldSixtyIdleConnections) {
  boost::asio::io_context context;
  std::vector<boost::asio::ip::tcp::socket> idle;
  for (int i = 0; i < 60; ++i) {
    idle.emplace_back(context).connect({boost::asio::ip::address_v4::loopback(), server_.port()});
  }
  const auto start = std::chrono::steady_clock::now();
  const std::string reply = reply_to("GET /status.json HTTP/1.0\r\nHost: localhost\r\n\r\n");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_TRUE(reply.ends_with(kStatus())) << reply;
}

}  // namespace
}  // namespace espalier
