#pragma once

#include <stdexcept>
#include <string>

namespace espalier {

// A failure of communication between ranks. The communicator that raised it is dead: every later
// operation on it fails with the same error, so the process reports, and ends.
class CommError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An operation made no progress for `seconds`: a peer is stopped, hung or took another path.
class Timeout : public CommError {
 public:
  Timeout(const std::string& operation, double seconds, const std::string& detail);
  const std::string& operation() const { return operation_; }
  double seconds() const { return seconds_; }

 private:
  std::string operation_;
  double seconds_;
};

// A peer left while others still waited for it.
class PeerLost : public CommError {
 public:
  PeerLost(int rank, const std::string& operation);
  int rank() const { return rank_; }

 private:
  int rank_;
};

// Ranks issued different operations where all must issue the same.
class ProtocolError : public CommError {
 public:
  using CommError::CommError;
};

}  // namespace espalier
