#include "launch/status/status_server.h"

#include <gtest/gtest.h>

#include <thread>
#include <utility>

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

TEST(StatusRequest, IsRefusedForAForeignHost) {
  EXPECT_EQ(code("GET", "/", "evil.example"), 403u);
  EXPECT_EQ(code("GET", "/", "127.0.0.1.evil.example:80"), 403u);
  EXPECT_EQ(code("GET", "/", ""), 403u);
  EXPECT_EQ(code("GET", "/", "[::1]:80"), 200u);
}

TEST(StatusServer, AnswersOverASocket) {
  boost::asio::io_context context;
  StatusServer server(context, kStatus);
  std::thread thread([&] { context.run(); });
  boost::asio::ip::tcp::iostream stream("127.0.0.1", std::to_string(server.port()));
  stream << "GET /status.json HTTP/1.0\r\nHost: localhost\r\n\r\n" << std::flush;
  const std::string reply{std::istreambuf_iterator<char>(stream), {}};
  context.stop();
  thread.join();
  EXPECT_TRUE(reply.starts_with("HTTP/1.0 200"));
  EXPECT_TRUE(reply.ends_with(kStatus()));
}

}  // namespace
}  // namespace espalier
