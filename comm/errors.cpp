#include "comm/errors.h"

#include <sstream>

namespace espalier {
namespace {

std::string timeout_message(const std::string& operation, double seconds,
                            const std::string& detail) {
  std::ostringstream text;
  text << operation << " made no progress for " << seconds << " s: " << detail;
  return text.str();
}

}  // namespace

Timeout::Timeout(const std::string& operation, double seconds, const std::string& detail)
    : CommError(timeout_message(operation, seconds, detail)),
      operation_(operation),
      seconds_(seconds) {}

PeerLost::PeerLost(int rank, const std::string& operation)
    : CommError(operation + ": rank " + std::to_string(rank) + " has left"), rank_(rank) {}

}  // namespace espalier
