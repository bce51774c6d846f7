#pragma once

#include <string>

namespace espalier {

// The folder that holds everything one training leaves. Making the object creates what is missing
// and takes a lock for the life of the process, so that two trainings never share a folder; the
// kernel drops the lock when the process dies, however it dies. Rank 0 only.
class RunDirectory {
 public:
  // Throws ConfigError when the folder cannot be created or written, or is in use.
  explicit RunDirectory(const std::string& path);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  static std::string checkpoints(const std::string& run) { return run + "/checkpoints"; }
  static std::string images(const std::string& run) { return run + "/images"; }
  static std::string evaluation(const std::string& run) { return run + "/evaluation"; }

 private:
  int lock_ = -1;
};

}  // namespace espalier
