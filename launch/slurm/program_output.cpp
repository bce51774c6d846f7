#include "launch/slurm/program_output.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <memory>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

namespace espalier {
namespace asio = boost::asio;

namespace {

// Its end of the pipe, or -1. The program gets its times as numbers: SLURM_TIME_FORMAT.
int start_with_pipe(std::vector<std::string>& arguments, pid_t* pid) {
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return -1;
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, pipe[1], 1);
  posix_spawn_file_actions_adddup2(&files, pipe[1], 2);
  posix_spawn_file_actions_addclosefrom_np(&files, 3);
  std::vector<char*> argv;
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int error = ::posix_spawnp(pid, argv[0], &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  ::close(pipe[1]);
  if (error == 0) return pipe[0];
  ::close(pipe[0]);
  return -1;
}

class Reader : public std::enable_shared_from_this<Reader> {
 public:
  Reader(asio::io_context& context, int fd, pid_t pid, ProgramSaid done)
      : pipe_(context, fd), timer_(context), pid_(pid), done_(std::move(done)) {}

  void start(std::chrono::milliseconds patience) {
    timer_.expires_after(patience);
    timer_.async_wait([self = shared_from_this()](boost::system::error_code error) {
      if (error) return;
      ::kill(self->pid_, SIGKILL);
      self->pipe_.close();
    });
    read();
  }

 private:
  void read() {
    pipe_.async_read_some(asio::buffer(piece_), [self = shared_from_this()](
                                                    boost::system::error_code error, size_t bytes) {
      self->text_.append(self->piece_.data(), bytes);
      if (!error) return self->read();
      self->timer_.cancel();
      ::waitpid(self->pid_, nullptr, WNOHANG);
      self->done_(self->text_);
    });
  }

  asio::posix::stream_descriptor pipe_;
  asio::steady_timer timer_;
  const pid_t pid_;
  const ProgramSaid done_;
  std::array<char, 4096> piece_;
  std::string text_;
};

}  // namespace

void run_program(asio::io_context& context, std::vector<std::string> arguments,
                 std::chrono::milliseconds patience, ProgramSaid done) {
  pid_t pid = 0;
  const int fd = start_with_pipe(arguments, &pid);
  if (fd < 0) return done("");
  std::make_shared<Reader>(context, fd, pid, std::move(done))->start(patience);
}

std::string program_output(std::vector<std::string> arguments, std::chrono::milliseconds patience) {
  asio::io_context context;
  std::string output;
  run_program(context, std::move(arguments), patience,
              [&output](const std::string& text) { output = text; });
  context.run();
  return output;
}

}  // namespace espalier
