#include "trainer/simulator/simulator_client.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "trainer/errors.h"
#include "trainer/simulator/bridge_message.h"
#include "trainer/simulator/bridge_process.h"

namespace espalier {
namespace {

constexpr int64_t kMaxSide = 4096;  // pixels
constexpr int64_t kMaxValues = 65536;
constexpr int kEpisodeTimes = 10;  // answer timeouts per episode

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

// The field of an answer as T; BridgeProtocolError when it is missing or of another kind.
template <class T>
T field(const nlohmann::json& answer, const char* key) {
  try {
    return answer.at(key).get<T>();
  } catch (const nlohmann::json::exception&) {
    const std::string text =
        answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 160);
    throw BridgeProtocolError("field \"" + std::string(key) +
                              "\" of its answer is missing or of another kind: " + text);
  }
}

int64_t size_field(const nlohmann::json& answer, const char* key, int64_t min, int64_t max) {
  const auto value = field<int64_t>(answer, key);
  if (!answer.at(key).is_number_integer() || value < min || value > max)
    throw BridgeProtocolError("field \"" + std::string(key) + "\" of its answer is " +
                              answer.at(key).dump() + "; expected " + std::to_string(min) + " to " +
                              std::to_string(max));
  return value;
}

template <class T>
std::vector<T> list_field(const nlohmann::json& answer, const char* key, size_t count) {
  auto list = field<std::vector<T>>(answer, key);
  if (list.size() != count)
    throw BridgeProtocolError("field \"" + std::string(key) + "\" of its answer has " +
                              std::to_string(list.size()) + " items; expected " +
                              std::to_string(count));
  return list;
}

std::vector<std::string> command_of(const SimulatorOptions& options) {
  std::vector<std::string> command = {options.python, options.script, "--simulator",
                                      options.simulator};
  command.insert(command.end(), options.arguments.begin(), options.arguments.end());
  return command;
}

std::string name_in_messages(const SimulatorOptions& options) {
  return options.simulator + " (" + options.python + " " + options.script + ")";
}

}  // namespace

SimulatorClient::SimulatorClient(const SimulatorOptions& options) : options_(options) {
  bridge_ = std::make_unique<BridgeProcess>(name_in_messages(options), command_of(options),
                                            options.start_timeout);
  bridge_->ask("for its first message", nlohmann::json::object(), {}, options.start_timeout,
               [this](const nlohmann::json& hello) { check_hello(hello); });
}

SimulatorClient::~SimulatorClient() = default;

bool SimulatorClient::is_broken() const { return bridge_->is_broken(); }
int SimulatorClient::pid() const { return bridge_->pid(); }

void SimulatorClient::check_hello(const nlohmann::json& hello) {
  if (field<std::string>(hello, "hello") != "espalier-bridge" ||
      size_field(hello, "version", 1, 1) != 1 ||
      field<std::string>(hello, "simulator") != options_.simulator) {
    throw BridgeProtocolError("its first message is " + hello.dump().substr(0, 160) +
                              "; expected hello \"espalier-bridge\", version 1, simulator \"" +
                              options_.simulator + "\"");
  }
  packages_ = field<std::map<std::string, std::string>>(hello, "packages");
}

ResetAnswer SimulatorClient::reset(const std::string& task, const std::vector<int64_t>& seeds) {
  ResetAnswer reset;
  sizes_ = {};
  bridge_->ask("to reset " + std::to_string(seeds.size()) + " environments of " + task,
               {{"do", "reset"}, {"task", task}, {"seeds", seeds}}, {},
               options_.answer_timeout * std::max<int64_t>(1, std::ssize(seeds)),
               [&](const nlohmann::json& answer) {
                 Sizes sizes;
                 sizes.environments = std::ssize(seeds);
                 reset.instructions = list_field<std::string>(answer, "instructions", seeds.size());
                 reset.views = field<std::vector<std::string>>(answer, "views");
                 sizes.views = std::ssize(reset.views);
                 if (sizes.views == 0) throw BridgeProtocolError("its answer has no views");
                 sizes.height = size_field(answer, "height", 1, kMaxSide);
                 sizes.width = size_field(answer, "width", 1, kMaxSide);
                 sizes.state = size_field(answer, "state_size", 0, kMaxValues);
                 reset.observation = read_observation(sizes);
                 sizes_ = sizes;
               });
  return reset;
}

StepAnswer SimulatorClient::step(const at::Tensor& actions) {
  TORCH_CHECK(sizes_.environments > 0, "step() of a simulator: expected reset() before it");
  TORCH_CHECK(actions.dim() == 2 && actions.size(0) == sizes_.environments,
              "step() of a simulator: actions of shape ", actions.sizes(), "; expected (",
              sizes_.environments, ", size of an action)");
  const at::Tensor sent = actions.detach().to(at::kCPU, at::kFloat).contiguous();
  const auto count = static_cast<size_t>(sizes_.environments);
  StepAnswer step;
  bridge_->ask("to step", {{"do", "step"}}, bytes_of(sent), options_.answer_timeout,
               [&](const nlohmann::json& answer) {
                 step.ended = list_field<bool>(answer, "ended", count);
                 step.success = list_field<bool>(answer, "success", count);
                 step.observation = read_observation(sizes_);
               });
  return step;
}

EpisodeAnswer SimulatorClient::expert(const std::string& task, const std::vector<int64_t>& seeds) {
  return episodes("expert", task, seeds);
}

EpisodeAnswer SimulatorClient::random(const std::string& task, const std::vector<int64_t>& seeds) {
  return episodes("random", task, seeds);
}

EpisodeAnswer SimulatorClient::episodes(const char* kind, const std::string& task,
                                        const std::vector<int64_t>& seeds) {
  EpisodeAnswer episodes;
  sizes_ = {};
  bridge_->ask("for " + std::to_string(seeds.size()) + " " + kind + " episodes of " + task,
               {{"do", kind}, {"task", task}, {"seeds", seeds}}, {},
               options_.answer_timeout * kEpisodeTimes * std::max<int64_t>(1, std::ssize(seeds)),
               [&](const nlohmann::json& answer) {
                 episodes.success = list_field<bool>(answer, "success", seeds.size());
                 episodes.steps = list_field<int64_t>(answer, "steps", seeds.size());
               });
  return episodes;
}

Observation SimulatorClient::read_observation(const Sizes& sizes) {
  // Each factor is bounded, but their product need not fit: divide the limit instead.
  int64_t room = kMaxPayloadBytes / (3 * sizes.height * sizes.width);
  room /= sizes.views;
  const int64_t images = sizes.environments > room
                             ? std::numeric_limits<int64_t>::max() / 2
                             : sizes.environments * sizes.views * sizes.height * sizes.width * 3;
  const int64_t expected = images + 4 * sizes.environments * sizes.state;
  if (static_cast<int64_t>(bridge_->unread_payload()) != expected)
    throw BridgeProtocolError(
        "the payload of its answer has " + std::to_string(bridge_->unread_payload()) + " bytes; " +
        std::to_string(sizes.environments) + " environments, " + std::to_string(sizes.views) +
        " views of " + std::to_string(sizes.width) + " x " + std::to_string(sizes.height) +
        " pixels and " + std::to_string(sizes.state) + " numbers of state do not fit that");
  Observation observation{
      at::empty({sizes.environments, sizes.views, sizes.height, sizes.width, 3}, at::kByte),
      at::empty({sizes.environments, sizes.state}, at::kFloat)};
  bridge_->read_payload(bytes_of(observation.images));
  bridge_->read_payload(bytes_of(observation.state));
  if (!at::isfinite(observation.state).all().item<bool>())
    throw BridgeProtocolError("the state in its answer is not finite");
  return observation;
}

}  // namespace espalier
