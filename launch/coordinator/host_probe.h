#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/coordinator/children.h"
#include "launch/coordinator/coordinator_events.h"
#include "launch/coordinator/host_slots.h"

namespace espalier {

// Finds out which hosts can be used now: those on which the agent that starts processes there
// (ssh, or what stands in for it) can run `true`. All are asked at once.
class HostProbe {
 public:
  // `agent`: its words, as in "ssh -p 2222". `patience` seconds for each answer.
  HostProbe(std::vector<HostSlots> hosts, const std::string& agent, Seconds patience,
            Children& children);
  ~HostProbe();
  HostProbe(const HostProbe&) = delete;
  HostProbe& operator=(const HostProbe&) = delete;

  void start(Seconds now);
  // Once after start(), when every host has answered or had its time. Call it several times a
  // second.
  std::optional<std::vector<HostState>> poll(Seconds now);

 private:
  struct Question {
    HostState state;
    int pid = 0;  // of the agent; 0: answered
  };
  void give_up(Question& question, const std::string& why);

  const std::vector<HostSlots> hosts_;
  std::vector<std::string> agent_;
  const Seconds patience_;
  Children& children_;
  std::vector<Question> questions_;
  std::optional<Seconds> started_;
};

// A file with a host a line, "NAME", "NAME:SLOTS" or, as for mpirun, "NAME slots=SLOTS"; # starts a
// comment. Throws ConfigError, naming the line, for anything else and for a file without hosts.
std::vector<HostSlots> read_hosts(const std::string& path);

}  // namespace espalier
