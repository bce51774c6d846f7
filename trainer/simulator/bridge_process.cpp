#include "trainer/simulator/bridge_process.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <nlohmann/json.hpp>

#include "trainer/errors.h"
#include "trainer/simulator/bridge_message.h"

namespace espalier {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kCloseTimeout{2000};
constexpr milliseconds kEndingTime{1000};  // from closing the connection to the exit status
constexpr milliseconds kLongestTick{100};  // after which the child is looked at again

ChildProcess start(std::vector<std::string> arguments, const std::string& path) {
  arguments.insert(arguments.end(), {"--socket", path});
  try {
    return ChildProcess(arguments);
  } catch (const SimulatorError& error) {
    throw SimulatorError(
        std::string(error.what()) +
        "; name the Python of the environment in which the simulator is installed");
  }
}

std::string seconds(milliseconds time) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g s", static_cast<double>(time.count()) / 1000);
  return text.data();
}

}  // namespace

BridgeProcess::BridgeProcess(std::string name, std::vector<std::string> arguments, Timeout timeout)
    : name_(std::move(name)), child_(start(std::move(arguments), socket_.path())) {
  guard("to connect", timeout, [this] {
    socket_.accept([this](int descriptor, short events) { wait_for(descriptor, events); });
  });
}

BridgeProcess::~BridgeProcess() {
  if (is_broken()) return;
  try {
    ask("to close", {{"do", "close"}}, {}, kCloseTimeout, [](const nlohmann::json&) {});
  } catch (const std::exception&) {
    return;  // it has been ended
  }
  socket_.close();
  child_.wait(kCloseTimeout);
}

void BridgeProcess::ask(const std::string& what, const nlohmann::json& question,
                        std::span<const std::byte> payload, Timeout timeout,
                        const std::function<void(const nlohmann::json&)>& take) {
  std::string refusal;
  guard(what, timeout, [&] {
    const Wait wait = [this](int descriptor, short events) { wait_for(descriptor, events); };
    if (!question.empty()) {
      const std::string start = encode_start(question, payload.size());
      socket_.send(std::as_bytes(std::span(start)), wait);
      socket_.send(payload, wait);
    }
    const nlohmann::json answer = read_answer();
    if (const auto error = answer.find("error"); error != answer.end()) {
      refusal = error->is_string() ? error->get<std::string>() : error->dump();
    } else {
      take(answer);
    }
    if (unread_payload_ != 0)
      throw BridgeProtocolError("its answer has " + std::to_string(unread_payload_) +
                                " bytes of payload that do not belong to it");
  });
  if (!refusal.empty())
    throw SimulatorError("simulator " + name_ + " was asked " + what + " and refused: " + refusal);
}

nlohmann::json BridgeProcess::read_answer() {
  const Wait wait = [this](int descriptor, short events) { wait_for(descriptor, events); };
  std::array<std::byte, kLengthsBytes> start{};
  socket_.receive(start, wait);
  const MessageLengths lengths = decode_lengths(start);
  std::string text(lengths.json, '\0');
  socket_.receive(std::as_writable_bytes(std::span(text)), wait);
  unread_payload_ = lengths.payload;
  return decode_fields(text);
}

void BridgeProcess::read_payload(std::span<std::byte> into) {
  if (into.size() > unread_payload_)
    throw BridgeProtocolError("its answer has too short a payload");
  socket_.receive(into, [this](int descriptor, short events) { wait_for(descriptor, events); });
  unread_payload_ -= into.size();
}

void BridgeProcess::guard(const std::string& what, Timeout timeout,
                          const std::function<void()>& action) {
  if (is_broken()) throw SimulatorError("it cannot be asked " + what + " any more: " + broken_);
  timeout_ = timeout;
  deadline_ = steady_clock::now() + timeout;
  try {
    action();
  } catch (const ConnectionClosed& error) {
    fail(what, error.what(), true);
  } catch (const std::exception& error) {
    fail(what, error.what(), false);
  }
}

void BridgeProcess::wait_for(int descriptor, short events) {
  for (;;) {
    const auto left = duration_cast<milliseconds>(deadline_ - steady_clock::now());
    if (left.count() <= 0) throw SimulatorError("it said nothing for " + seconds(timeout_));
    std::array<pollfd, 2> ready = {pollfd{descriptor, events, 0},
                                   pollfd{child_.output(), POLLIN, 0}};
    const int count =
        poll(ready.data(), ready.size(),
             static_cast<int>(std::min(left + milliseconds(1), kLongestTick).count()));
    if (count < 0 && errno != EINTR) throw SimulatorError("poll() failed");
    if (count > 0 && ready[1].revents != 0) child_.read_output();
    // What came before the bridge ended can still be read.
    if (count > 0 && ready[0].revents != 0) return;
    if (child_.has_ended()) throw ConnectionClosed("it has ended");
  }
}

void BridgeProcess::fail(const std::string& what, const std::string& reason, bool is_closed) {
  socket_.close();
  // One that closed the connection is about to end by itself, which tells more than our signal.
  if (is_closed) child_.wait(kEndingTime);
  child_.read_output();
  const std::string state =
      child_.has_ended() ? child_.state() : child_.state() + " and is ended now";
  const std::string lines = child_.last_lines();
  broken_ = "simulator " + name_ + " was asked " + what + ": " + reason + "; " + state +
            (lines.empty() ? "; it printed nothing" : "; its last lines:" + lines);
  child_.end(kEndingTime);
  throw SimulatorError(broken_);
}

}  // namespace espalier
