#pragma once

#include <string>

namespace espalier {

// The folder that holds everything one training leaves. Making the object creates what is missing
// and takes a lock for the life of the process, so that two trainings never share a folder; the
// kernel drops the lock when the process dies, however it dies. train.lock says who holds it. Rank
// 0 only.
//
// Note [Generations and the lock]: a rank 0 that was cut off on another host may hold the lock when
// its coordinator has already launched the next generation. That one goes on: it puts a lock file
// of its own in the place of the other, and the old one, whose file is no longer the one of that
// name, commits nothing more (is_ours).
class RunDirectory {
 public:
  // `generation` is the launch of a coordinator, 0 = there is none. Throws ConfigError when the
  // folder cannot be created or written, or is in use by anything but an older generation.
  explicit RunDirectory(const std::string& path, int generation = 0);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  // False when a newer generation has taken the folder. Any thread.
  bool is_ours() const;

  static std::string checkpoints(const std::string& run) { return run + "/checkpoints"; }
  static std::string images(const std::string& run) { return run + "/images"; }
  static std::string evaluation(const std::string& run) { return run + "/evaluation"; }
  // Text tokenizers that a fork's models came with.
  static std::string inherited(const std::string& run) { return run + "/inherited"; }

 private:
  std::string lock_path_;
  int lock_ = -1;
};

}  // namespace espalier
