#include "launch/protocol/peer_link.h"

#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "launch/protocol/handshake.h"
#include "launch/protocol/messages.h"
#include "trainer/errors.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

TlsContext tls_for(const CoordinatorAddress& address) {
  return address.certificate.empty() ? nullptr : tls_of_peer(address.certificate);
}

}  // namespace

PeerLink::PeerLink(asio::io_context& context, CoordinatorAddress address, uint32_t generation,
                   uint32_t rank)
    : context_(context),
      address_(std::move(address)),
      generation_(generation),
      rank_(rank),
      stream_(tcp::socket(context), tls_for(address_)) {}

asio::awaitable<Frame> PeerLink::connect(const std::string& token_file) {
  const HostIdentity here = this_host();
  if (address_.is_loopback() && !address_.host.machine.empty() &&
      address_.host.machine != here.machine && address_.host.name != here.name) {
    throw ConfigError("the coordinator runs on host " + address_.host.name +
                      " and listens there on loopback alone, which host " + here.name +
                      " cannot reach; launch with --listen ADDRESS --tls FOLDER");
  }
  const SecretKey token =
      load_token(token_file.empty() ? token_path(address_.tokens, role_of(rank_)) : token_file);
  const tcp::endpoint endpoint(asio::ip::make_address(address_.address), address_.control_port);
  co_await stream_.socket().async_connect(endpoint, asio::use_awaitable);
  stream_.set_options();
  co_await stream_.connect_tls();

  WorkerHandshake handshake(token, generation_, rank_, HelloMessage{::getpid(), here});
  const std::string hello = encode_frame(handshake.hello());
  co_await stream_.write(hello);
  const Frame challenge = co_await stream_.read_frame(reader_);
  const std::string proof = encode_frame(handshake.answer(challenge));
  co_await stream_.write(proof);
  reader_.expect_seals(handshake.keys().to_worker);
  key_ = handshake.keys().to_coordinator;
  const Frame welcome = co_await stream_.read_frame(reader_);
  co_return welcome;
}

asio::awaitable<void> PeerLink::send(MessageType type, const nlohmann::json& payload) {
  const Frame frame{type, generation_, rank_, next_sequence_++, json_text(payload)};
  const std::string bytes = encode_frame(frame, &key_);
  co_await stream_.write(bytes);
}

asio::awaitable<Frame> PeerLink::receive() {
  Frame frame = co_await stream_.read_frame(reader_);
  co_return frame;
}

}  // namespace espalier
