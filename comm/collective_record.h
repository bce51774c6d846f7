#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/collective_watch.h"
#include "comm/errors.h"

namespace espalier {

// Where the operations of one communicator are recorded.
struct CollectiveRecording {
  std::shared_ptr<CollectiveWatch> watch;
  std::string group;
  std::string dump_directory;  // empty: a deadline leaves no file
};

// One operation in the flight recorder, in the hands of the backend that carries it out.
class CollectiveRecord {
 public:
  CollectiveRecord(const CollectiveRecording& recording, int rank, const CollectiveCall& call);

  void start() const { watch_->on_start(number_); }
  void end() const { watch_->on_end(number_); }
  std::string describe() const { return call_.describe(); }

  // For an operation that made no progress for `seconds`: leaves the flight recorder in a file,
  // and names operation, number and file. `detail` says what is known of the cause.
  Timeout timeout(double seconds, const std::string& detail) const;

 private:
  std::shared_ptr<CollectiveWatch> watch_;
  std::string dump_directory_;
  int rank_;
  CollectiveCall call_;
  uint64_t number_;
};

}  // namespace espalier
