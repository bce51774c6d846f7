#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace espalier {

// A program under test, in a session of its own. What it says goes to a file.
class Program {
 public:
  Program(std::vector<std::string> arguments, std::filesystem::path output);
  ~Program();  // kills it if it still runs
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  int pid() const { return pid_; }
  void signal(int number) const;
  bool is_running();
  // Exit code as a shell shows it; -1 when it did not end in time.
  int wait(double seconds);
  std::string output() const;

 private:
  int pid_ = 0;
  int exit_code_ = -1;
  bool ended_ = false;
  std::filesystem::path output_;
};

// Polls until true; false after so many seconds.
bool eventually(double seconds, const std::function<bool()>& condition);

std::string read_text(const std::filesystem::path& path);

// Steps of the newest line of metrics.jsonl, over all stages; -1 before the first.
int64_t trained_steps(const std::filesystem::path& run);
// The newest committed checkpoint, -1 when there is none.
int64_t newest_checkpoint(const std::filesystem::path& run);
// All bytes of all weights of the newest checkpoint.
std::string final_weights(const std::filesystem::path& run);
// Process of a rank as the coordinator knows it; 0 when it does not, or does not answer.
int pid_of_rank(const std::filesystem::path& run, int rank);
int generation_of(const std::filesystem::path& run);

}  // namespace espalier
