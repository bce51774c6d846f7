#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fault/program.h"

namespace espalier {

struct HostProcess {
  int pid = 0;          // as this process sees it
  int pid_in_host = 0;  // as the host's own processes see it
  std::string command;
};

// Several hosts on one machine, for a job that runs across them: each has an address, a name,
// processes, /tmp and /dev/shm of its own, and shares all other files with the rest, as on a
// cluster with a shared file system. They reach each other by name over a network that only they
// are on; tests/hosts/agent is their ssh. Nothing outside changes, and nothing of it outlives this
// process, even one that is killed.
//
// Only one thread may call. Every method throws std::runtime_error when the system says no.
class NamespaceHosts {
 public:
  // Empty where hosts can be made; else the reason, for GTEST_SKIP.
  static std::string why_not();

  // `node_local`: directories that every host has for itself, empty at each boot. Relative ones lie
  // in directory().
  explicit NamespaceHosts(const std::vector<std::string>& names,
                          const std::vector<std::filesystem::path>& node_local = {});
  ~NamespaceHosts();  // ends every process of every host
  NamespaceHosts(const NamespaceHosts&) = delete;
  NamespaceHosts& operator=(const NamespaceHosts&) = delete;

  // Seen by all hosts and by the test at the same path; removed at the end. What the test shares
  // with its hosts lies here, since /tmp is each host's own.
  const std::filesystem::path& directory() const { return directory_; }
  std::string address(const std::string& host) const;

  // Starts a program in the host, as a child of the test: its pid and signals are the real ones.
  // Its environment and working directory are the test's. `output` lies in directory().
  std::unique_ptr<Program> run(const std::string& host, const std::vector<std::string>& arguments,
                               const std::filesystem::path& output) const;
  // Calls on another thread, which sees the network and the files of the host (not its processes):
  // for status_of() and whatever else speaks to loopback there. Rethrows.
  void within(const std::string& host, const std::function<void()>& call) const;

  // Power failure: nobody hears of it. Others that connect to it later are refused by the network
  // within 0.3 s.
  void kill_host(const std::string& host);
  // The same name and address, nothing else of what was.
  void boot(const std::string& host);
  // Whatever goes to and from the host vanishes; its link stays up.
  void partition(const std::string& host);
  void heal(const std::string& host);
  // While it is on, the processes of the host are stopped for nine tenths of every 0.1 s.
  void slow(const std::string& host, bool is_on);

  // All but the host's own first process and its agents' servers; what has ended but was not waited
  // for does not count.
  std::vector<HostProcess> processes(const std::string& host) const;
  // 0 when there is no such process.
  int pid_in_root(const std::string& host, int pid_in_host) const;

 private:
  struct Namespaces {
    int pid = 0;        // of the process that holds them
    int lifeline = -1;  // when it is closed, that process ends
    std::string pid_namespace;
  };
  struct Host {
    int number = 0;  // last part of the address
    bool is_on = false;
    std::string port;  // its end of the cable, in the room
    Namespaces namespaces;
    std::jthread slowing;
  };

  void write_hosts_file() const;
  void end(Host* host, double patience_s);
  void connect(const std::string& name);
  void set_neighbours(const std::string& name);
  void configure_network(const Namespaces& where, const std::string& commands) const;
  Host& find(const std::string& name);
  const Host& find(const std::string& name) const;
  const Host& find_running(const std::string& name) const;

  std::filesystem::path directory_;
  std::vector<std::filesystem::path> node_local_;
  Namespaces room_;  // of the network between the hosts
  std::map<std::string, Host> hosts_;
};

}  // namespace espalier
