#include "launch/coordinator/host_probe.h"

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>

#include "launch/protocol/host_identity.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

bool is_here(const std::string& name, const HostIdentity& here) {
  return name == here.name || name == "localhost" || name.starts_with("127.");
}

// In a process group of its own, so that what it started goes with it.
int spawn_quietly(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  for (const int fd : {0, 1, 2}) {
    posix_spawn_file_actions_addopen(&files, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
  }
  posix_spawn_file_actions_addclosefrom_np(&files, 3);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t pid = 0;
  const int error =
      ::posix_spawnp(&pid, arguments[0], &files, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw ConfigError(words[0] + ": " + std::strerror(error));
  return pid;
}

HostSlots parse_host(const std::string& line, const std::string& where) {
  std::istringstream words(line);
  HostSlots host;
  std::string slots;
  std::string more;
  words >> host.name >> slots >> more;
  const auto colon = host.name.find(':');
  if (colon != std::string::npos && slots.empty()) {
    slots = host.name.substr(colon + 1);
    host.name.erase(colon);
  } else if (slots.starts_with("slots=")) {
    slots.erase(0, std::strlen("slots="));
  } else if (!slots.empty()) {
    slots = "?";
  }
  if (slots.empty()) return host;
  const auto [end, error] = std::from_chars(slots.data(), slots.data() + slots.size(), host.slots);
  if (error != std::errc() || end != slots.data() + slots.size() || host.slots < 1 ||
      host.slots > 4096 || host.name.empty() || !more.empty()) {
    throw ConfigError(where + ": \"" + line +
                      "\" is neither NAME, NAME:SLOTS nor NAME slots=SLOTS");
  }
  return host;
}

}  // namespace

HostProbe::HostProbe(std::vector<HostSlots> hosts, const std::string& agent, Seconds patience,
                     Children& children)
    : hosts_(std::move(hosts)), patience_(patience), children_(children) {
  std::istringstream words(agent);
  for (std::string word; words >> word;) agent_.push_back(word);
  if (agent_ == std::vector<std::string>{"ssh"}) {
    agent_.insert(agent_.end(), {"-o", "BatchMode=yes"});  // nobody is here to type a password
  }
}

HostProbe::~HostProbe() {
  for (Question& question : questions_) {
    if (question.pid != 0) give_up(question, "");
  }
}

void HostProbe::start(Seconds now) {
  started_ = now;
  questions_.clear();
  const HostIdentity here = this_host();
  for (const HostSlots& host : hosts_) {
    Question& question = questions_.emplace_back(Question{{host, /*answers=*/true}, 0});
    if (is_here(host.name, here)) continue;
    auto words = agent_;
    words.insert(words.end(), {host.name, "true"});
    question.pid = spawn_quietly(words);
    children_.expect(question.pid);
  }
}

void HostProbe::give_up(Question& question, const std::string& why) {
  ::kill(-question.pid, SIGKILL);
  children_.forget(question.pid);
  question.pid = 0;
  question.state.answers = false;
  question.state.why = why;
}

std::optional<std::vector<HostState>> HostProbe::poll(Seconds now) {
  if (!started_) return std::nullopt;
  const bool is_late = now - *started_ > patience_;
  bool is_complete = true;
  for (Question& question : questions_) {
    if (question.pid == 0) continue;
    if (const auto status = children_.take(question.pid)) {
      question.pid = 0;
      question.state.answers = *status == 0;
      if (*status != 0)
        question.state.why = "refuses: " + agent_[0] + " ended with " + std::to_string(*status);
    } else if (is_late) {
      give_up(question, "does not answer");
    } else {
      is_complete = false;
    }
  }
  if (!is_complete) return std::nullopt;
  started_.reset();
  std::vector<HostState> out;
  for (const Question& question : questions_) out.push_back(question.state);
  return out;
}

std::vector<HostSlots> read_hosts(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw ConfigError("hosts file " + path + " cannot be read");
  std::vector<HostSlots> hosts;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    line = line.substr(0, line.find('#'));
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    hosts.push_back(parse_host(line, path + " line " + std::to_string(number)));
  }
  if (hosts.empty()) throw ConfigError("hosts file " + path + " names no host");
  return hosts;
}

}  // namespace espalier
