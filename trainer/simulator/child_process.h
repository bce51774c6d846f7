#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace espalier {

// A program that this process starts and ends, in a process group of its own, so that Ctrl-C in a
// terminal does not reach it. It gets no open file but its streams (a run's lock and MPI's sockets
// stay ours) and none of MPI's environment. What it prints goes into a pipe; the last lines are
// kept for messages. For one thread at a time.
class ChildProcess {
 public:
  // arguments[0] is looked for on PATH. Throws SimulatorError when it cannot be started.
  explicit ChildProcess(const std::vector<std::string>& arguments);
  // Ends it: SIGTERM, then SIGKILL, to this one process; waits `grace` after each at most.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Readable when it has printed something; -1 once it has closed its streams. Whoever waits for
  // the child must read_output() too, or it stops at a full pipe.
  int output() const { return output_; }
  void read_output();  // what is there, without waiting

  bool has_ended();
  bool wait(std::chrono::milliseconds time);  // true: it has ended
  void end(std::chrono::milliseconds grace);

  // "process 42 ended with exit status 3", "process 42 was ended by signal 9 (Killed)".
  std::string state() const;
  // The last lines it printed, each indented on a line of its own; "" when there are none.
  std::string last_lines() const;

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  bool has_ended_ = false;
  std::optional<int> status_;  // as waitpid() gives it; none when another took it
  std::string tail_;
};

}  // namespace espalier
