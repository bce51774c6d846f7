#include "launch/status/coordinator_client.h"

#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "launch/protocol/handshake.h"
#include "launch/protocol/messages.h"
#include "launch/protocol/peer_link.h"
#include "trainer/errors.h"

namespace espalier {
namespace asio = boost::asio;
using nlohmann::json;

namespace {

constexpr auto kPatience = std::chrono::seconds(5);

CoordinatorAddress address_of(const std::string& run_directory) {
  const std::string path = run_directory + "/coordinator.json";
  if (!std::filesystem::exists(path)) {
    throw ConfigError("no coordinator runs " + run_directory +
                      " now; start one with `espalier launch`");
  }
  return CoordinatorAddress::load(path);
}

asio::awaitable<void> talk(PeerLink& link, const std::string& token_file,
                           const std::function<asio::awaitable<void>(PeerLink&)>& body) {
  const Frame welcome = co_await link.connect(token_file);
  if (welcome.type == MessageType::kBye) {
    throw FrameError("refused: " + RefusalMessage::decode(parse_payload(welcome.payload)).why);
  }
  co_await body(link);
}

// Connects in the role of `rank`, and runs `body` with the proved connection.
void visit(const std::string& run_directory, uint32_t rank, const std::string& token_file,
           const std::function<asio::awaitable<void>(PeerLink&)>& body) {
  asio::io_context context;
  PeerLink link(context, address_of(run_directory), /*generation=*/0, rank);
  std::exception_ptr failure;
  bool is_done = false;
  asio::co_spawn(context, talk(link, token_file, body), [&](std::exception_ptr error) {
    failure = error;
    is_done = true;
  });
  context.run_for(kPatience);
  const std::string who = "the coordinator of " + run_directory;
  if (!is_done) throw ConfigError(who + " does not answer; it may have been killed");
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const boost::system::system_error& error) {
    throw ConfigError(who + " does not answer (" + error.code().message() +
                      "); it may have been killed");
  } catch (const FrameError& error) {
    throw ConfigError(who + ": " + error.what());
  }
}

}  // namespace

std::string fetch_status(const std::string& run_directory, const std::string& token_file) {
  std::string status;
  visit(run_directory, kReaderRank, token_file, [&](PeerLink& link) -> asio::awaitable<void> {
    const json nothing = json::object();
    co_await link.send(MessageType::kStatus, nothing);
    const Frame answer = co_await link.receive();
    status = answer.payload;
  });
  return status;
}

void request_stop(const std::string& run_directory, const std::string& why,
                  const std::string& token_file) {
  visit(run_directory, kOperatorRank, token_file, [&](PeerLink& link) -> asio::awaitable<void> {
    const json stop = StopMessage{why}.encode();
    co_await link.send(StopMessage::kType, stop);
  });
}

}  // namespace espalier
