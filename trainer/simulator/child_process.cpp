#include "trainer/simulator/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "trainer/errors.h"

extern char** environ;

namespace espalier {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr size_t kTailBytes = 8192;
constexpr size_t kLinesShown = 12;
constexpr milliseconds kGrace{2000};

struct Actions {
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
  Actions() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~Actions() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
};

// A program that finds these may take itself for a rank of the job.
bool belongs_to_mpi(std::string_view variable) {
  return variable.starts_with("OMPI_") || variable.starts_with("PMIX_") ||
         variable.starts_with("PMI_");
}

std::vector<char*> environment_of_child() {
  std::vector<char*> list;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!belongs_to_mpi(*variable)) list.push_back(*variable);
  }
  list.push_back(nullptr);
  return list;
}

// What the trainer blocks or ignores is not for the child to inherit.
void set_up(Actions& spawn, int write_end) {
  posix_spawn_file_actions_addopen(&spawn.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&spawn.actions, write_end, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&spawn.actions, write_end, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&spawn.actions, STDERR_FILENO + 1);
  sigset_t none;
  sigset_t usual;
  sigemptyset(&none);
  sigemptyset(&usual);
  for (const int signal : {SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD})
    sigaddset(&usual, signal);
  posix_spawnattr_setsigmask(&spawn.attributes, &none);
  posix_spawnattr_setsigdefault(&spawn.attributes, &usual);
  posix_spawnattr_setpgroup(&spawn.attributes, 0);
  posix_spawnattr_setflags(&spawn.attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& arguments) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    throw SimulatorError(std::string("cannot make a pipe: ") + std::strerror(errno));
  output_ = ends[0];
  fcntl(output_, F_SETFL, O_NONBLOCK);

  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const std::vector<char*> environment = environment_of_child();
  Actions spawn;
  set_up(spawn, ends[1]);
  const int error = posix_spawnp(&pid_, argv[0], &spawn.actions, &spawn.attributes, argv.data(),
                                 environment.data());
  close(ends[1]);
  if (error != 0) {
    close(output_);
    throw SimulatorError("cannot start " + arguments.at(0) + ": " + std::strerror(error));
  }
}

ChildProcess::~ChildProcess() {
  end(kGrace);
  if (output_ >= 0) close(output_);
}

void ChildProcess::read_output() {
  std::array<char, 4096> piece{};
  while (output_ >= 0) {
    const ssize_t got = read(output_, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      close(output_);
      output_ = -1;
      return;
    }
    tail_.append(piece.data(), static_cast<size_t>(got));
    if (tail_.size() > 2 * kTailBytes) tail_.erase(0, tail_.size() - kTailBytes);
  }
}

bool ChildProcess::has_ended() {
  if (has_ended_) return true;
  int status = 0;
  const pid_t got = waitpid(pid_, &status, WNOHANG);
  if (got == pid_) status_ = status;
  has_ended_ = got == pid_ || (got < 0 && errno == ECHILD);
  return has_ended_;
}

bool ChildProcess::wait(milliseconds time) {
  constexpr milliseconds kTick{10};
  const auto deadline = steady_clock::now() + time;
  while (!has_ended() && steady_clock::now() < deadline) {
    pollfd output{output_, POLLIN, 0};  // ignored when it is -1
    poll(&output, 1, static_cast<int>(kTick.count()));
    read_output();
  }
  read_output();
  return has_ended();
}

void ChildProcess::end(milliseconds grace) {
  // Until it has been waited for, its number belongs to no other process.
  for (const int signal : {SIGTERM, SIGKILL}) {
    if (has_ended()) return;
    kill(pid_, signal);
    wait(grace);
  }
}

std::string ChildProcess::state() const {
  const std::string name = "process " + std::to_string(pid_);
  if (!has_ended_) return name + " is still running";
  if (!status_) return name + " has ended, with an exit status that is not known";
  if (WIFSIGNALED(*status_)) {
    return name + " was ended by signal " + std::to_string(WTERMSIG(*status_)) + " (" +
           strsignal(WTERMSIG(*status_)) + ")";
  }
  return name + " ended with exit status " + std::to_string(WEXITSTATUS(*status_));
}

std::string ChildProcess::last_lines() const {
  std::vector<std::string> lines;
  size_t begin = tail_.size() > kTailBytes ? tail_.size() - kTailBytes : 0;
  while (begin < tail_.size()) {
    const size_t end = std::min(tail_.find('\n', begin), tail_.size());
    if (end > begin) lines.push_back(tail_.substr(begin, end - begin));
    begin = end + 1;
  }
  std::string text;
  for (size_t i = lines.size() - std::min(lines.size(), kLinesShown); i < lines.size(); ++i)
    text += "\n  " + lines[i];
  return text;
}

}  // namespace espalier
