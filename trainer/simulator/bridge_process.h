#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "trainer/simulator/bridge_socket.h"
#include "trainer/simulator/child_process.h"

namespace espalier {

// A bridge as a child of this process, and the conversation with it. Every wait has a deadline;
// while it waits it also takes what the bridge prints and notices when the bridge ends. Whatever
// breaks the conversation ends the bridge and throws SimulatorError, and so does every call after
// that. For one thread at a time.
class BridgeProcess {
 public:
  using Timeout = std::chrono::milliseconds;

  // `name` is for messages. Starts the program with `--socket PATH` added and waits until it has
  // connected.
  BridgeProcess(std::string name, std::vector<std::string> arguments, Timeout timeout);
  // Asks it to close, waits, then SIGTERM, then SIGKILL: 8 s at most.
  ~BridgeProcess();
  BridgeProcess(const BridgeProcess&) = delete;
  BridgeProcess& operator=(const BridgeProcess&) = delete;

  // One exchange: sends a question and hands the answer's JSON to `take`, which reads the payload
  // with read_payload() to its end and throws BridgeProtocolError when the answer makes no sense.
  // An answer {"error": text} throws SimulatorError with that text, and the bridge can be asked
  // further. An empty question: only an answer is waited for.
  void ask(const std::string& what, const nlohmann::json& question,
           std::span<const std::byte> payload, Timeout timeout,
           const std::function<void(const nlohmann::json&)>& take);
  size_t unread_payload() const { return unread_payload_; }  // bytes
  void read_payload(std::span<std::byte> into);

  bool is_broken() const { return !broken_.empty(); }
  pid_t pid() const { return child_.pid(); }

 private:
  void guard(const std::string& what, Timeout timeout, const std::function<void()>& action);
  void wait_for(int descriptor, short events);
  nlohmann::json read_answer();
  [[noreturn]] void fail(const std::string& what, const std::string& reason, bool is_closed);

  std::string name_;
  BridgeSocket socket_;
  ChildProcess child_;
  Timeout timeout_{};
  std::chrono::steady_clock::time_point deadline_;
  size_t unread_payload_ = 0;
  std::string broken_;  // the message of what broke the conversation
};

}  // namespace espalier
