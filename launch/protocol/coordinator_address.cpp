#include "launch/protocol/coordinator_address.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "trainer/errors.h"
#include "trainer/record/json_field.h"
#include "trainer/record/json_text.h"

namespace espalier {
using nlohmann::json;

CoordinatorAddress CoordinatorAddress::load(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw ConfigError(path + " is not there: no coordinator runs now");
  const json text = json::parse(file, nullptr, /*allow_exceptions=*/false);
  CoordinatorAddress out;
  read_field(text, "address", &out.address);
  read_field(text, "control_port", &out.control_port);
  read_field(text, "status_port", &out.status_port);
  read_field(text, "certificate", &out.certificate);
  read_field(text, "tokens", &out.tokens);
  read_field(text, "pid", &out.pid);
  read_field(text, "host", &out.host.name);
  read_field(text, "machine", &out.host.machine);
  if (out.control_port == 0 || out.tokens.empty()) {
    throw ConfigError(path + " is no coordinator's address");
  }
  return out;
}

std::string CoordinatorAddress::text() const {
  const json out = {{"address", address},         {"control_port", control_port},
                    {"status_port", status_port}, {"certificate", certificate},
                    {"tokens", tokens},           {"pid", pid},
                    {"host", host.name},          {"machine", host.machine}};
  return json_text(out, 2) + "\n";
}

bool CoordinatorAddress::is_loopback() const {
  return address == "::1" || address.starts_with("127.");
}

}  // namespace espalier
