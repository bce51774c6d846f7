#include "launch/protocol/messages.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

using nlohmann::json;

// As it is on the other end of a wire.
template <class Message>
Message sent(const Message& message) {
  return Message::decode(json::parse(message.encode().dump()));
}

TEST(BeatMessage, CarriesStepPhaseAndWork) {
  const BeatMessage beat = sent(BeatMessage{7, Phase::kSetup, {{"teacher features", 16, 1517}}});
  EXPECT_EQ(beat.step, 7);
  EXPECT_EQ(beat.phase, Phase::kSetup);
  ASSERT_TRUE(beat.work.has_value());
  EXPECT_EQ(beat.work->what, "teacher features");
  EXPECT_EQ(beat.work->done, 16);
  EXPECT_EQ(beat.work->total, 1517);
  EXPECT_FALSE(sent(BeatMessage{7, Phase::kReduce, {}}).work.has_value());
}

TEST(BeatMessage, CarriesEveryPhase) {
  for (const Phase phase : kPhases) EXPECT_EQ(sent(BeatMessage{0, phase, {}}).phase, phase);
}

TEST(BeatMessage, WithoutAPhaseThatExistsIsRefused) {
  EXPECT_THROW(BeatMessage::decode({{"step", 1}, {"phase", "train"}}), FrameError);
  EXPECT_THROW(BeatMessage::decode({{"step", 1}, {"phase", 3}}), FrameError);
  EXPECT_THROW(BeatMessage::decode({{"step", 1}}), FrameError);
}

TEST(BeatMessage, KeepsDefaultsForOtherFieldsThatAreMissingOrMistyped) {
  const BeatMessage beat =
      BeatMessage::decode({{"phase", "data"}, {"step", "x"}, {"work", {{"done", "many"}}}});
  EXPECT_EQ(beat.step, -1);
  EXPECT_EQ(beat.work->done, 0);
}

TEST(MetricsMessage, CarriesTheReportOfAStep) {
  MetricsMessage message;
  message.report.stage = "tokenizer";
  message.report.global_step = 50;
  message.report.losses = {{"pixel", 0.5}};
  const StepReport report = sent(message).report;
  EXPECT_EQ(report.stage, "tokenizer");
  EXPECT_EQ(report.global_step, 50);
  EXPECT_EQ(report.losses.at("pixel"), 0.5);
}

TEST(CheckpointMessages, CarryTheStep) {
  EXPECT_EQ(sent(CheckpointPreparedMessage{40}).step, 40);
  EXPECT_EQ(sent(CheckpointCommitMessage{41}).step, 41);
  EXPECT_EQ(sent(CheckpointCommittedMessage{42}).step, 42);
  EXPECT_EQ(CheckpointCommitMessage::decode({{"step", nullptr}}).step, -1);
}

TEST(ErrorReportMessage, CarriesClassAndText) {
  const ErrorReportMessage message = sent(ErrorReportMessage{FailureClass::kData, "torn"});
  EXPECT_EQ(message.failure_class, FailureClass::kData);
  EXPECT_EQ(message.what, "torn");
}

TEST(ErrorReportMessage, OfAnUnknownClassIsInternal) {
  EXPECT_EQ(ErrorReportMessage::decode({{"class", "bad luck"}}).failure_class,
            FailureClass::kInternal);
}

TEST(LastMessages, CarryReasonsAndExitCodes) {
  EXPECT_EQ(sent(HelloMessage{42}).pid, 42);
  EXPECT_EQ(sent(StopMessage{"SIGTERM"}).why, "SIGTERM");
  EXPECT_EQ(sent(ByeMessage{kExitStopped}).exit_code, kExitStopped);
  EXPECT_EQ(ByeMessage::decode(json::object()).exit_code, kExitInternal);
  EXPECT_EQ(sent(RefusalMessage{"generation 3 is over"}).why, "generation 3 is over");
}

}  // namespace
}  // namespace espalier
