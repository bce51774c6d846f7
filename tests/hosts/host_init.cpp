// First process of a host that NamespaceHosts made, in namespaces that are made already, and its
// way in from other hosts: what an ssh server is on a real one. Its end is the end of all processes
// of the host, and it ends when its stdin does: with the test, however that ends.
//
//   host_init host NAME HOSTS_FILE [keep PATH | local PATH]...
//   host_init room DIRECTORY     holds the network between the hosts; removes DIRECTORY at the end
//
// Says "ready" on stdout. Frames between it and tests/hosts/agent: a letter, four bytes of length
// (big endian), bytes. To the host: c command, i stdin (empty: its end). From it: o stdout, e
// stderr, x exit status.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace fs = std::filesystem;

constexpr int kPort = 22;
constexpr uint32_t kLongestFrame = 1 << 20;

void check(bool is_good, const std::string& what) {
  if (!is_good) throw std::runtime_error(what + ": " + std::strerror(errno));
}

void say_ready() { check(::write(STDOUT_FILENO, "ready\n", 6) == 6, "stdout"); }

void set_network(const std::string& key, const std::string& value) {
  std::ofstream("/proc/sys/net/" + key) << value;  // a kernel without it is as good
}

void mount_memory(const fs::path& path, const char* mode) {
  fs::create_directories(path);
  check(::mount("tmpfs", path.c_str(), "tmpfs", 0, mode) == 0, "tmpfs on " + path.string());
}

// What is kept lies below /tmp, which the host has of its own.
void set_up_files(const std::string& hosts_file, const std::vector<fs::path>& kept,
                  const std::vector<fs::path>& local) {
  check(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
  check(::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0, "/proc");
  check(::mount(hosts_file.c_str(), "/etc/hosts", nullptr, MS_BIND, nullptr) == 0, "/etc/hosts");
  mount_memory("/dev/shm", "mode=1777");
  std::vector<int> folders;
  for (const auto& path : kept) {
    folders.push_back(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    check(folders.back() >= 0, path.string());
  }
  mount_memory("/tmp", "mode=1777");
  for (size_t i = 0; i < kept.size(); ++i) {
    fs::create_directories(kept[i]);
    const std::string source = "/proc/self/fd/" + std::to_string(folders[i]);
    check(::mount(source.c_str(), kept[i].c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0,
          "bind " + kept[i].string());
    ::close(folders[i]);
  }
  for (const auto& path : local) mount_memory(path, "mode=0755");
}

bool send_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = ::write(fd, data, size);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

bool receive_all(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t received = ::read(fd, data, size);
    if (received < 0 && errno == EINTR) continue;
    if (received <= 0) return false;
    data += received;
    size -= static_cast<size_t>(received);
  }
  return true;
}

bool send_frame(int fd, char kind, const std::string& bytes) {
  const uint32_t length = htonl(static_cast<uint32_t>(bytes.size()));
  std::string frame(1, kind);
  frame.append(reinterpret_cast<const char*>(&length), sizeof length);
  frame += bytes;
  return send_all(fd, frame.data(), frame.size());
}

bool receive_frame(int fd, char* kind, std::string* bytes) {
  uint32_t length = 0;
  if (!receive_all(fd, kind, 1)) return false;
  if (!receive_all(fd, reinterpret_cast<char*>(&length), sizeof length)) return false;
  length = ntohl(length);
  if (length > kLongestFrame) return false;
  bytes->resize(length);
  return receive_all(fd, bytes->data(), length);
}

// The command of one connection, with the three pipes that lead to it.
struct Command {
  int pid = 0;
  int in = -1;
  int out = -1;
  int err = -1;
};

// As ssh does it: the shell of the user, in the home directory, with next to no environment.
Command start(const std::string& command) {
  int in[2], out[2], err[2];
  check(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(err, O_CLOEXEC) == 0,
        "pipe");
  const int pid = ::fork();
  check(pid >= 0, "fork");
  if (pid == 0) {
    ::setsid();
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    std::signal(SIGPIPE, SIG_DFL);
    if (::chdir("/root") != 0 && ::chdir("/") != 0) ::_exit(127);
    const char* const environment[] = {
        "HOME=/root", "USER=root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", nullptr};
    ::execle("/bin/sh", "sh", "-c", command.c_str(), nullptr, environment);
    ::_exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  return {pid, in[1], out[0], err[0]};
}

void close_once(int* fd) {
  if (*fd >= 0) ::close(*fd);
  *fd = -1;
}

// False: the other side is gone.
bool take_input(int connection, Command* command) {
  char kind = 0;
  std::string bytes;
  if (!receive_frame(connection, &kind, &bytes)) return false;
  if (bytes.empty() || !send_all(command->in, bytes.data(), bytes.size())) close_once(&command->in);
  return true;
}

bool pass_output(int connection, char kind, int* pipe) {
  std::string bytes(65536, '\0');
  const ssize_t size = ::read(*pipe, bytes.data(), bytes.size());
  if (size <= 0) {
    close_once(pipe);
    return true;
  }
  bytes.resize(static_cast<size_t>(size));
  return send_frame(connection, kind, bytes);
}

void serve(int connection) {
  char kind = 0;
  std::string text;
  if (!receive_frame(connection, &kind, &text) || kind != 'c') return;
  Command command = start(text);
  while (command.out >= 0 || command.err >= 0) {
    pollfd files[] = {{connection, POLLIN, 0}, {command.out, POLLIN, 0}, {command.err, POLLIN, 0}};
    if (::poll(files, 3, -1) < 0) continue;
    if (files[0].revents != 0 && !take_input(connection, &command)) return;
    if (files[1].revents != 0 && !pass_output(connection, 'o', &command.out)) return;
    if (files[2].revents != 0 && !pass_output(connection, 'e', &command.err)) return;
  }
  int status = 0;
  ::waitpid(command.pid, &status, 0);
  send_frame(connection, 'x',
             std::to_string(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)));
}

int listen_everywhere() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  check(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "bind");
  check(::listen(listener, 64) == 0, "listen");
  return listener;
}

void serve_until_stdin_ends() {
  const int listener = listen_everywhere();
  std::signal(SIGCHLD, SIG_IGN);  // whoever loses its parent becomes a child of this process
  std::signal(SIGPIPE, SIG_IGN);
  say_ready();
  for (;;) {
    pollfd files[] = {{STDIN_FILENO, POLLIN, 0}, {listener, POLLIN, 0}};
    if (::poll(files, 2, -1) < 0) continue;
    if (files[0].revents != 0) return;
    if (files[1].revents == 0) continue;
    const int connection = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    if (::fork() == 0) {
      std::signal(SIGCHLD, SIG_DFL);
      ::close(listener);
      serve(connection);
      ::_exit(0);
    }
    ::close(connection);
  }
}

void be_host(const std::vector<std::string>& arguments) {
  const std::string& name = arguments.at(1);
  check(::sethostname(name.c_str(), name.size()) == 0, "sethostname");
  std::vector<fs::path> kept;
  std::vector<fs::path> local;
  for (size_t i = 3; i + 1 < arguments.size(); i += 2) {
    (arguments[i] == "keep" ? kept : local).emplace_back(arguments[i + 1]);
  }
  set_up_files(arguments.at(2), kept, local);
  set_network("ipv6/conf/all/disable_ipv6", "1");
  set_network("ipv6/conf/default/disable_ipv6", "1");
  serve_until_stdin_ends();
}

void be_room(const fs::path& directory) {
  set_network("ipv6/conf/all/disable_ipv6", "1");
  set_network("ipv6/conf/default/disable_ipv6", "1");
  say_ready();
  char ignored = 0;
  while (::read(STDIN_FILENO, &ignored, 1) > 0) {
  }
  // Processes of the hosts that end at the same moment may still write.
  std::error_code error;
  for (int i = 0; i < 50 && (i < 3 || fs::exists(directory)); ++i) {
    fs::remove_all(directory, error);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

}  // namespace

int main(int count, char** values) {
  const std::vector<std::string> arguments(values + 1, values + count);
  try {
    if (arguments.size() >= 3 && arguments[0] == "host") {
      be_host(arguments);
    } else if (arguments.size() == 2 && arguments[0] == "room") {
      be_room(arguments[1]);
    } else {
      throw std::runtime_error("NamespaceHosts starts this program, nobody else");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "host_init: %s\n", error.what());
    return 1;
  }
  return 0;
}
