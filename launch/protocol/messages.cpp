#include "launch/protocol/messages.h"

#include "trainer/record/json_field.h"

namespace espalier {
namespace {

using nlohmann::json;

std::string text_field(const json& payload, const char* name) {
  std::string text;
  read_field(payload, name, &text);
  return text;
}

}  // namespace

json HelloMessage::encode() const {
  return {{"pid", pid}, {"host", host.name}, {"machine", host.machine}};
}

HelloMessage HelloMessage::decode(const json& payload) {
  HelloMessage message;
  read_field(payload, "pid", &message.pid);
  message.host = {text_field(payload, "host"), text_field(payload, "machine")};
  return message;
}

json WelcomeMessage::encode() const { return json::object(); }

json BeatMessage::encode() const {
  json payload = {{"step", step}, {"phase", name_of(phase)}};
  if (work) payload["work"] = {{"what", work->what}, {"done", work->done}, {"total", work->total}};
  if (exchange) {
    payload["exchange"] = {{"issued", exchange->issued},
                           {"finished", exchange->finished},
                           {"waits_for", exchange->waits_for},
                           {"waited_s", exchange->waited_s}};
  }
  return payload;
}

BeatMessage BeatMessage::decode(const json& payload) {
  BeatMessage message;
  const std::string name = text_field(payload, "phase");
  const std::optional<Phase> phase = parse_phase(name);
  if (!phase) throw FrameError("a BEAT with the unknown phase \"" + name + "\"");
  message.phase = *phase;
  read_field(payload, "step", &message.step);
  const auto work = payload.find("work");
  if (work != payload.end() && work->is_object()) {
    message.work.emplace();
    read_field(*work, "what", &message.work->what);
    read_field(*work, "done", &message.work->done);
    read_field(*work, "total", &message.work->total);
  }
  const auto exchange = payload.find("exchange");
  if (exchange != payload.end() && exchange->is_object()) {
    message.exchange.emplace();
    read_field(*exchange, "issued", &message.exchange->issued);
    read_field(*exchange, "finished", &message.exchange->finished);
    read_field(*exchange, "waits_for", &message.exchange->waits_for);
    read_field(*exchange, "waited_s", &message.exchange->waited_s);
  }
  return message;
}

json MetricsMessage::encode() const { return to_json(report); }

MetricsMessage MetricsMessage::decode(const json& payload) {
  return {step_report_from_json(payload)};
}

template <MessageType Type>
json CheckpointMessage<Type>::encode() const {
  return {{"step", step}};
}

template <MessageType Type>
CheckpointMessage<Type> CheckpointMessage<Type>::decode(const json& payload) {
  CheckpointMessage message;
  read_field(payload, "step", &message.step);
  return message;
}

template struct CheckpointMessage<MessageType::kCkptPrepared>;
template struct CheckpointMessage<MessageType::kCkptCommit>;
template struct CheckpointMessage<MessageType::kCkptCommitted>;

json CheckpointFailedMessage::encode() const { return {{"step", step}, {"why", why}}; }

CheckpointFailedMessage CheckpointFailedMessage::decode(const json& payload) {
  CheckpointFailedMessage message;
  read_field(payload, "step", &message.step);
  message.why = text_field(payload, "why");
  return message;
}

json StopMessage::encode() const { return {{"why", why}}; }

StopMessage StopMessage::decode(const json& payload) { return {text_field(payload, "why")}; }

json EndMessage::encode() const { return {{"why", why}}; }

EndMessage EndMessage::decode(const json& payload) { return {text_field(payload, "why")}; }

json ErrorReportMessage::encode() const {
  return {{"class", name_of(failure_class)}, {"what", what}};
}

ErrorReportMessage ErrorReportMessage::decode(const json& payload) {
  return {parse_failure_class(text_field(payload, "class")).value_or(FailureClass::kInternal),
          text_field(payload, "what")};
}

json ByeMessage::encode() const { return {{"exit_code", exit_code}}; }

ByeMessage ByeMessage::decode(const json& payload) {
  ByeMessage message;
  read_field(payload, "exit_code", &message.exit_code);
  return message;
}

json RefusalMessage::encode() const { return {{"why", why}}; }

RefusalMessage RefusalMessage::decode(const json& payload) { return {text_field(payload, "why")}; }

}  // namespace espalier
