#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace boost::asio {
class io_context;
}

namespace espalier {

// The parts of an HTTP request that decide its answer, and the decision, free of sockets.
struct StatusRequest {
  std::string method;
  std::string target;
  std::string host;
  size_t hosts = 1;  // that the request names
};
struct StatusReply {
  unsigned code = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};
using StatusSource = std::function<std::string()>;  // the JSON of /status.json

// Exactly one Host (RFC 9112, 3.2), or a proxy and this server could each believe another.
// GET and HEAD only, and only for a Host that names loopback: a web page that made its own name
// point here (DNS rebinding) gets nothing.
StatusReply answer_status_request(const StatusRequest& request, const StatusSource& status_json);

// The coordinator's read-only page, on a free port of 127.0.0.1.
class StatusServer {
 public:
  StatusServer(boost::asio::io_context& context, StatusSource status_json);
  ~StatusServer();
  uint16_t port() const;
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// The page behind `/`; it fetches /status.json every second.
const std::string& status_page();

}  // namespace espalier
