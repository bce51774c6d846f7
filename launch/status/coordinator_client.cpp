#include "launch/status/coordinator_client.h"

#include <unistd.h>

#include <fstream>
#include <utility>

#include <boost/asio/ip/tcp.hpp>

#include "launch/protocol/handshake.h"
#include "launch/protocol/messages.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

using boost::asio::ip::tcp;
using nlohmann::json;

constexpr auto kPatience = std::chrono::seconds(5);

json read_address(const std::string& run_directory) {
  const std::string path = run_directory + "/coordinator.json";
  std::ifstream file(path);
  json address = json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!address.is_object()) {
    throw ConfigError("no coordinator runs " + run_directory +
                      " now; start one with `espalier launch`");
  }
  return address;
}

tcp::iostream connect(const std::string& run_directory, const json& address, const char* port) {
  tcp::iostream stream;
  stream.expires_after(kPatience);
  stream.connect(
      tcp::endpoint(boost::asio::ip::make_address(address.value("host", std::string("127.0.0.1"))),
                    address.value(port, uint16_t{0})));
  if (!stream) {
    throw ConfigError("the coordinator of " + run_directory + " does not answer (" +
                      stream.error().message() + "); it may have been killed");
  }
  return stream;
}

Frame read_frame(tcp::iostream& stream, FrameReader& reader) {
  while (true) {
    if (auto frame = reader.next()) return std::move(*frame);
    char byte = 0;
    if (!stream.get(byte)) throw FrameError("the coordinator hung up");
    reader.append({&byte, 1});
  }
}

}  // namespace

std::string fetch_status(const std::string& run_directory) {
  const json address = read_address(run_directory);
  auto stream = connect(run_directory, address, "status_port");
  stream << "GET /status.json HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" << std::flush;
  const std::string reply{std::istreambuf_iterator<char>(stream), {}};
  const auto body = reply.find("\r\n\r\n");
  if (body == std::string::npos || reply.find(" 200 ") > reply.find("\r\n")) {
    throw ConfigError("the coordinator of " + run_directory + " gave no status");
  }
  return reply.substr(body + 4);
}

void request_stop(const std::string& run_directory, const std::string& why) {
  const json address = read_address(run_directory);
  const SecretKey token = load_token(address.at("token_file").get<std::string>());
  auto stream = connect(run_directory, address, "control_port");
  WorkerHandshake handshake(token, 0, kOperatorRank, HelloMessage{::getpid()});
  FrameReader reader;
  stream << encode_frame(handshake.hello()) << std::flush;
  const Frame proof = handshake.answer(read_frame(stream, reader));
  stream << encode_frame(proof) << std::flush;
  reader.expect_seals(handshake.keys().to_worker);
  if (read_frame(stream, reader).type != MessageType::kWelcome) {
    throw FrameError("the coordinator refused");
  }
  const Frame stop{MessageType::kStop, 0, kOperatorRank, 0, StopMessage{why}.encode().dump()};
  stream << encode_frame(stop, &handshake.keys().to_coordinator) << std::flush;
}

}  // namespace espalier
