#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "launch/protocol/coordinator_address.h"
#include "launch/protocol/failure_class.h"

namespace espalier {

// An advisory lock that the kernel drops when the process dies, however it dies.
class FileLock {
 public:
  // Throws ConfigError when another process holds it.
  explicit FileLock(const std::string& path, const std::string& held_message);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

// Why a rank ended, in errors/rank-N.json: for those who come after the channel is gone.
struct RankErrorFile {
  int rank = 0;
  FailureClass failure_class = FailureClass::kInternal;
  std::string what;
};

// Where coordinator and ranks leave things for each other in a run directory.
struct CoordinatorFiles {
  explicit CoordinatorFiles(std::string run_directory);  // makes it absolute, creates it

  std::string run;
  std::string address() const { return run + "/coordinator.json"; }
  std::string tokens() const { return run + "/tokens"; }
  std::string journal() const { return run + "/coordinator.journal"; }
  std::string logs(uint32_t generation) const;
  std::string scratch(uint32_t generation) const;

  FileLock lock() const;
  void write_address(const CoordinatorAddress& address) const;
  void remove_address() const;
  void append_event(const nlohmann::json& event) const;
  std::vector<RankErrorFile> read_errors(uint32_t generation) const;
};

void write_rank_error(const std::string& run_directory, uint32_t generation,
                      const RankErrorFile& error);

double unix_time_s();

}  // namespace espalier
