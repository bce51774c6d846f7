#include "hosts/namespace_hosts.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>

#include "launch/coordinator/job_launcher.h"

namespace espalier {
namespace fs = std::filesystem;

namespace {

constexpr int kHostNamespaces =
    CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID;
constexpr double kPatience_s = 10;

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

// A thread may enter other namespaces and leave the rest of the process where it is.
void on_thread(const std::function<void()>& call) {
  std::exception_ptr error;
  std::thread([&] {
    try {
      call();
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
}

// For the calling thread, for ever; "pid" counts for its children only.
void enter(int pid, const std::vector<std::string>& kinds) {
  const fs::path working_directory = fs::current_path();
  std::vector<int> files;
  for (const auto& kind : kinds) {  // all of them first: with "mnt" comes another /proc
    const std::string path = "/proc/" + std::to_string(pid) + "/ns/" + kind;
    files.push_back(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (files.back() < 0) fail(path);
  }
  if (::unshare(CLONE_FS) != 0) fail("unshare");
  for (const int file : files) {
    if (::setns(file, 0) != 0) fail("setns");
    ::close(file);
  }
  fs::current_path(working_directory);
}

std::string pid_namespace_of(const std::string& pid) {
  std::error_code none;
  return fs::read_symlink("/proc/" + pid + "/ns/pid", none).string();
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

// Value of a line of /proc/PID/status; empty when the process is gone.
std::string status_line(const std::string& pid, const std::string& key) {
  std::ifstream file("/proc/" + pid + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":\t")) return line.substr(key.size() + 2);
  }
  return "";
}

std::string command_line(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/cmdline");
  std::string out;
  for (std::string word; std::getline(file, word, '\0');) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::vector<HostProcess> processes_in(const std::string& pid_namespace) {
  std::vector<HostProcess> out;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string pid = entry.path().filename().string();
    if (!is_number(pid) || pid_namespace_of(pid) != pid_namespace) continue;
    const std::string state = status_line(pid, "State");
    if (state.empty() || state[0] == 'Z' || state[0] == 'X') continue;
    std::error_code none;
    if (fs::read_symlink(entry.path() / "exe", none) == fs::path(ESPALIER_HOST_INIT)) continue;
    HostProcess process;
    process.pid = std::stoi(pid);
    const std::string pids = status_line(pid, "NSpid");
    if (pids.empty()) continue;
    process.pid_in_host = std::stoi(pids.substr(pids.find_last_of('\t') + 1));
    if (process.pid_in_host == 1) continue;
    process.command = command_line(pid);
    out.push_back(process);
  }
  return out;
}

void signal_all(const std::string& pid_namespace, int number) {
  for (const auto& process : processes_in(pid_namespace)) ::kill(process.pid, number);
}

void slow_down(const std::stop_token& is_over, const std::string& pid_namespace) {
  while (!is_over.stop_requested()) {
    signal_all(pid_namespace, SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(90));
    signal_all(pid_namespace, SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void wait_until_ready(int pipe) {
  pollfd file = {pipe, POLLIN, 0};
  char letter = 0;
  if (::poll(&file, 1, static_cast<int>(kPatience_s * 1000)) != 1 ||
      ::read(pipe, &letter, 1) != 1) {
    throw std::runtime_error("a host did not start; what host_init says is above");
  }
}

struct Pipe {
  Pipe() {
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
  }
  ~Pipe() {
    for (const int end : ends) {
      if (end >= 0) ::close(end);
    }
  }
  int ends[2] = {-1, -1};
};

// host_init in new namespaces. It lives as long as the other end of its stdin, which is returned.
std::pair<int, int> start_init(int new_namespaces, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), ESPALIER_HOST_INIT);
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  Pipe lifeline;
  Pipe ready;
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, lifeline.ends[0], 0);
  posix_spawn_file_actions_adddup2(&files, ready.ends[1], 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  int pid = 0;
  int error = 0;
  on_thread([&] {
    if (::unshare(new_namespaces) != 0) fail("unshare");
    error = ::posix_spawn(&pid, pointers[0], &files, &attributes, pointers.data(), environ);
  });
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw std::runtime_error(arguments[0] + ": " + std::strerror(error));
  ::close(std::exchange(ready.ends[1], -1));
  wait_until_ready(ready.ends[0]);
  return {pid, std::exchange(lifeline.ends[1], -1)};
}

bool is_below(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first ==
         folder.end();
}

std::string address_of(int number) { return "10.77.0." + std::to_string(number); }
std::string hardware_address_of(int number) {
  char text[] = "02:00:0a:4d:00:00";
  std::snprintf(text, sizeof text, "02:00:0a:4d:00:%02x", static_cast<unsigned>(number) & 0xffu);
  return text;
}

}  // namespace

std::string NamespaceHosts::why_not() {
  if (::geteuid() != 0) return "hosts are made of namespaces, which needs root";
  if (find_program("ip").empty()) return "hosts need the program ip (package iproute2)";
  std::string reason;
  on_thread([&] {
    if (::unshare(kHostNamespaces & ~CLONE_NEWPID) != 0) {
      reason = std::string("no namespaces can be made: ") + std::strerror(errno);
      return;
    }
    for (const std::string kind : {"bridge", "veth"}) {
      Program probe({"ip", "link", "add", "probe-" + kind, "type", kind}, "/dev/null");
      if (probe.wait(kPatience_s) != 0) reason = "this kernel makes no network " + kind;
    }
  });
  return reason;
}

NamespaceHosts::NamespaceHosts(const std::vector<std::string>& names,
                               const std::vector<fs::path>& node_local) {
  static std::atomic<int> count{0};
  directory_ = fs::path(testing::TempDir()) /
               ("hosts-" + std::to_string(::getpid()) + "-" + std::to_string(++count));
  fs::create_directories(directory_ / "network");
  for (const auto& path : node_local) node_local_.push_back(directory_ / path);
  std::tie(room_.pid, room_.lifeline) = start_init(CLONE_NEWNET, {"room", directory_.string()});
  configure_network(room_, "link set lo up\nlink add bridge type bridge\nlink set bridge up\n");
  int number = 0;
  for (const auto& name : names) hosts_[name].number = ++number;
  write_hosts_file();
  for (const auto& name : names) boot(name);
}

NamespaceHosts::~NamespaceHosts() {
  for (auto& [name, host] : hosts_) end(&host, kPatience_s);
  // The room removes the directory.
  ::close(room_.lifeline);
  eventually(kPatience_s, [this] { return ::waitpid(room_.pid, nullptr, WNOHANG) != 0; });
}

std::string NamespaceHosts::address(const std::string& host) const {
  return address_of(find(host).number);
}

std::unique_ptr<Program> NamespaceHosts::run(const std::string& host,
                                             const std::vector<std::string>& arguments,
                                             const fs::path& output) const {
  const Host& where = find_running(host);
  std::unique_ptr<Program> program;
  on_thread([&] {
    enter(where.namespaces.pid, {"net", "uts", "ipc", "pid", "mnt"});
    program = std::make_unique<Program>(arguments, output);
  });
  return program;
}

void NamespaceHosts::within(const std::string& host, const std::function<void()>& call) const {
  const Host& where = find_running(host);
  on_thread([&] {
    enter(where.namespaces.pid, {"net", "uts", "ipc", "mnt"});
    call();
  });
}

void NamespaceHosts::kill_host(const std::string& name) {
  Host& host = find(name);
  if (!host.is_on) return;
  // Off the network first: the kernel would close the connections of the dying processes.
  partition(name);
  end(&host, kPatience_s);
  for (const auto& [other_name, other] : hosts_) {
    if (!other.is_on) continue;
    configure_network(other.namespaces, "neigh del " + address_of(host.number) + " dev eth0\n");
  }
}

void NamespaceHosts::boot(const std::string& name) {
  Host& host = find(name);
  if (host.is_on) throw std::runtime_error("host " + name + " is on already");
  std::vector<std::string> arguments = {"host", name, (directory_ / "network/hosts").string()};
  for (const fs::path& path :
       {fs::path(ESPALIER_SOURCE_DIR), fs::path(ESPALIER_BUILD_DIR), directory_}) {
    if (is_below(path, "/tmp")) arguments.insert(arguments.end(), {"keep", path.string()});
  }
  for (const auto& path : node_local_) {
    fs::create_directories(path);
    arguments.insert(arguments.end(), {"local", path.string()});
  }
  std::tie(host.namespaces.pid, host.namespaces.lifeline) = start_init(kHostNamespaces, arguments);
  host.namespaces.pid_namespace = pid_namespace_of(std::to_string(host.namespaces.pid));
  host.is_on = true;
  // The old one, if any, goes when the kernel has cleaned up behind the host that was killed.
  static std::atomic<int> count{0};
  host.port = "port" + std::to_string(++count);
  connect(name);
}

void NamespaceHosts::partition(const std::string& name) {
  configure_network(room_, "link set " + find_running(name).port + " nomaster\n");
}

void NamespaceHosts::heal(const std::string& name) {
  configure_network(room_, "link set " + find_running(name).port + " master bridge\n");
}

void NamespaceHosts::slow(const std::string& name, bool is_on) {
  find_running(name);
  Host& host = find(name);
  host.slowing = {};  // stops it, and waits
  if (!is_on) return;
  host.slowing = std::jthread(slow_down, host.namespaces.pid_namespace);
}

std::vector<HostProcess> NamespaceHosts::processes(const std::string& host) const {
  return processes_in(find(host).namespaces.pid_namespace);
}

int NamespaceHosts::pid_in_root(const std::string& host, int pid_in_host) const {
  for (const auto& process : processes(host)) {
    if (process.pid_in_host == pid_in_host) return process.pid;
  }
  return 0;
}

void NamespaceHosts::write_hosts_file() const {
  std::ofstream file(directory_ / "network/hosts");
  file << "127.0.0.1 localhost\n";
  for (const auto& [name, host] : hosts_) file << address_of(host.number) << " " << name << "\n";
}

void NamespaceHosts::end(Host* host, double patience_s) {
  if (!host->is_on) return;
  host->slowing = {};
  host->is_on = false;
  ::kill(host->namespaces.pid, SIGKILL);
  ::close(host->namespaces.lifeline);
  // The first process itself is only gone when the test has waited for all that it started there.
  eventually(patience_s, [&] { return processes_in(host->namespaces.pid_namespace).empty(); });
  std::thread([pid = host->namespaces.pid] { ::waitpid(pid, nullptr, 0); }).detach();
}

void NamespaceHosts::connect(const std::string& name) {
  const Host& host = find(name);
  const std::string& port = host.port;
  configure_network(room_, "link add " + port + " type veth peer name eth0 address " +
                               hardware_address_of(host.number) + " netns " +
                               std::to_string(host.namespaces.pid) + "\nlink set " + port +
                               " up\nlink set " + port + " master bridge\n");
  // The last line: who looks for a host that is off hears within 0.3 s that nobody has its address.
  configure_network(host.namespaces, "link set lo up\naddress add " + address_of(host.number) +
                                         "/24 dev eth0\nlink set eth0 up\n"
                                         "ntable change name arp_cache dev eth0 retrans 100\n");
  set_neighbours(name);
}

// Fixed, so that a host that is cut off is silent: nothing tells that its address is not found.
void NamespaceHosts::set_neighbours(const std::string& name) {
  const Host& host = find(name);
  const auto entry = [](int number) {
    return "neigh replace " + address_of(number) + " lladdr " + hardware_address_of(number) +
           " dev eth0 nud permanent\n";
  };
  std::string neighbours;
  for (const auto& [other_name, other] : hosts_) {
    if (!other.is_on || other_name == name) continue;
    neighbours += entry(other.number);
    configure_network(other.namespaces, entry(host.number));
  }
  configure_network(host.namespaces, neighbours);
}

void NamespaceHosts::configure_network(const Namespaces& where, const std::string& commands) const {
  const fs::path batch = directory_ / "network/commands";
  std::ofstream(batch) << commands;
  on_thread([&] {
    enter(where.pid, {"net"});
    Program program({"ip", "-batch", batch.string()}, directory_ / "network/output");
    if (program.wait(kPatience_s) != 0) throw std::runtime_error(commands + program.output());
  });
}

NamespaceHosts::Host& NamespaceHosts::find(const std::string& name) {
  return const_cast<Host&>(std::as_const(*this).find(name));
}

const NamespaceHosts::Host& NamespaceHosts::find(const std::string& name) const {
  const auto found = hosts_.find(name);
  if (found == hosts_.end()) throw std::runtime_error("there is no host " + name);
  return found->second;
}

const NamespaceHosts::Host& NamespaceHosts::find_running(const std::string& name) const {
  const Host& host = find(name);
  if (!host.is_on) throw std::runtime_error("host " + name + " is off");
  return host;
}

}  // namespace espalier
