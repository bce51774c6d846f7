#include "launch/status/status_server.h"

#include <algorithm>
#include <list>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

namespace espalier {
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;

namespace {

constexpr auto kTimeout = std::chrono::seconds(10);
constexpr uint32_t kHeaderLimitBytes = 8192;
constexpr size_t kMaxConnections = 32;

bool names_loopback(const std::string& host) {
  const auto colon = host.rfind(':');
  const bool has_port = colon != std::string::npos && host.find(']', colon) == std::string::npos;
  const std::string name = has_port ? host.substr(0, colon) : host;
  return name == "127.0.0.1" || name == "localhost" || name == "[::1]";
}

}  // namespace

StatusReply answer_status_request(const StatusRequest& request, const StatusSource& status_json) {
  if (request.hosts != 1) return {400, "text/plain; charset=utf-8", "one Host, please\n"};
  if (!names_loopback(request.host)) return {403, "text/plain; charset=utf-8", "forbidden host\n"};
  if (request.method != "GET" && request.method != "HEAD") {
    return {405, "text/plain; charset=utf-8", "only GET\n"};
  }
  const std::string path = request.target.substr(0, request.target.find('?'));
  if (path == "/") return {200, "text/html; charset=utf-8", status_page()};
  if (path == "/status.json") return {200, "application/json", status_json()};
  return {404, "text/plain; charset=utf-8", "not found\n"};
}

struct StatusServer::State {
  State(asio::io_context& context, StatusSource source)
      : acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
        status_json(std::move(source)) {}

  tcp::acceptor acceptor;
  StatusSource status_json;
  std::list<std::shared_ptr<beast::tcp_stream>> streams;  // the one that was used last at the end

  // Whoever only holds a connection open loses it to the next who comes.
  void make_room() {
    if (streams.size() < kMaxConnections) return;
    streams.front()->cancel();
    streams.pop_front();
  }
  void was_used(const std::shared_ptr<beast::tcp_stream>& stream) {
    const auto found = std::find(streams.begin(), streams.end(), stream);
    if (found != streams.end()) streams.splice(streams.end(), streams, found);
  }

  static asio::awaitable<void> accept(std::shared_ptr<State> state) {
    while (state->acceptor.is_open()) {
      boost::system::error_code error;
      tcp::socket socket =
          co_await state->acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
      if (error == asio::error::operation_aborted) co_return;
      if (error) continue;
      const auto executor = socket.get_executor();
      const auto stream = std::make_shared<beast::tcp_stream>(std::move(socket));
      state->make_room();
      state->streams.push_back(stream);
      asio::co_spawn(executor, serve(state, stream), asio::detached);
    }
  }

  static asio::awaitable<void> serve(std::shared_ptr<State> state,
                                     std::shared_ptr<beast::tcp_stream> stream) {
    boost::system::error_code error;
    beast::flat_buffer buffer;
    while (!error) {
      http::request_parser<http::empty_body> parser;
      parser.header_limit(kHeaderLimitBytes);
      parser.body_limit(0);
      stream->expires_after(kTimeout);
      co_await http::async_read(*stream, buffer, parser,
                                asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
      state->was_used(stream);
      const auto& request = parser.get();
      const StatusReply reply = answer_status_request(
          {std::string(request.method_string()), std::string(request.target()),
           std::string(request[http::field::host]), request.count(http::field::host)},
          state->status_json);
      http::response<http::string_body> response(static_cast<http::status>(reply.code),
                                                 request.version());
      response.set(http::field::content_type, reply.content_type);
      response.set(http::field::cache_control, "no-store");
      response.set("X-Content-Type-Options", "nosniff");
      response.set("Content-Security-Policy",
                   "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                   "connect-src 'self'; frame-ancestors 'none'");
      response.keep_alive(request.keep_alive());
      response.body() = reply.body;
      response.prepare_payload();
      if (request.method() == http::verb::head) response.body().clear();
      const bool keep = response.keep_alive();
      stream->expires_after(kTimeout);
      co_await http::async_write(*stream, response,
                                 asio::redirect_error(asio::use_awaitable, error));
      if (!keep) break;
    }
    stream->socket().shutdown(tcp::socket::shutdown_send, error);
    state->streams.remove(stream);
  }
};

StatusServer::StatusServer(asio::io_context& context, StatusSource status_json)
    : state_(std::make_shared<State>(context, std::move(status_json))) {
  asio::co_spawn(context, State::accept(state_), asio::detached);
}

StatusServer::~StatusServer() { close(); }

uint16_t StatusServer::port() const { return state_->acceptor.local_endpoint().port(); }

void StatusServer::close() {
  boost::system::error_code ignored;
  state_->acceptor.close(ignored);
}

}  // namespace espalier
