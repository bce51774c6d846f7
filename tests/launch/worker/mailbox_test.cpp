#include "launch/worker/mailbox.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace espalier {
namespace {

// What is queued, oldest first, all of it sent.
std::vector<MessageType> drain(Mailbox& mailbox) {
  std::vector<MessageType> types;
  while (const auto message = mailbox.next()) {
    types.push_back(message->type);
    mailbox.sent(message->id);
  }
  return types;
}

TEST(Mailbox, KeepsAMessageUntilItWasSent) {
  Mailbox mailbox(0);
  mailbox.post(ByeMessage{kExitDone});
  const auto first = mailbox.next();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(mailbox.next()->id, first->id);
  mailbox.sent(first->id);
  EXPECT_FALSE(mailbox.next().has_value());
}

TEST(Mailbox, ForgetsUnsentBeatsButNothingElseWhenTheConnectionIsLost) {
  Mailbox mailbox(0);
  mailbox.add_beat();
  mailbox.post(ErrorReportMessage{FailureClass::kData, "torn"});
  const auto beat_on_its_way = mailbox.next();
  mailbox.disconnected();
  mailbox.sent(beat_on_its_way->id);  // it made it after all; nothing else may be dropped for it
  EXPECT_EQ(drain(mailbox), (std::vector<MessageType>{MessageType::kErrorReport}));
}

TEST(Mailbox, SendsNumbersOfRankZeroOnlyWithItsNextBeat) {
  for (const int rank : {0, 1}) {
    Mailbox mailbox(rank);
    mailbox.set_step(StepReport{});
    mailbox.add_beat();
    mailbox.add_beat();
    const std::vector<MessageType> types = drain(mailbox);
    EXPECT_EQ(std::count(types.begin(), types.end(), MessageType::kMetrics), rank == 0 ? 1 : 0);
  }
}

TEST(Mailbox, AsksAgainForACommitOnEveryNewConnection) {
  Mailbox mailbox(1);
  mailbox.ask_to_commit(40);
  EXPECT_EQ(drain(mailbox), (std::vector<MessageType>{MessageType::kCkptPrepared}));
  mailbox.connected();
  EXPECT_EQ(drain(mailbox), (std::vector<MessageType>{MessageType::kCkptPrepared}));
  mailbox.allowed({40});
  EXPECT_TRUE(mailbox.wait_for_permission(40));
  mailbox.connected();
  EXPECT_TRUE(drain(mailbox).empty());
}

TEST(Mailbox, IsCutOffWhileTheCoordinatorMayComeBackAndNotWhenItIsGone) {
  Mailbox mailbox(0);
  EXPECT_TRUE(mailbox.is_cut_off());
  mailbox.connected();
  EXPECT_FALSE(mailbox.is_cut_off());
  mailbox.disconnected();
  EXPECT_TRUE(mailbox.is_cut_off());
  mailbox.coordinator_is_gone();
  EXPECT_FALSE(mailbox.is_cut_off());
}

TEST(Mailbox, AnswersNoAndStopsWhenItsGenerationIsOver) {
  Mailbox mailbox(1);
  mailbox.ask_to_commit(40);
  std::thread channel([&] { mailbox.refused({"generation 1 is over"}); });
  EXPECT_FALSE(mailbox.wait_for_permission(40));
  EXPECT_TRUE(mailbox.stop_requested());
  channel.join();
}

TEST(Mailbox, WithTheCoordinatorGoneForGoodCommitsOnlyWhatItMayAlone) {
  for (const bool may : {true, false}) {
    Mailbox mailbox(0, [may] { return may; });
    mailbox.ask_to_commit(40);
    std::thread channel([&] { mailbox.coordinator_is_gone(); });
    EXPECT_EQ(mailbox.wait_for_permission(40), may);
    EXPECT_TRUE(mailbox.stop_requested());
    channel.join();
  }
}

TEST(Mailbox, PermissionThatTheCoordinatorGaveCountsAfterItIsGone) {
  Mailbox mailbox(0, [] { return false; });
  mailbox.ask_to_commit(40);
  mailbox.allowed({40});
  mailbox.coordinator_is_gone();
  EXPECT_TRUE(mailbox.wait_for_permission(40));
  EXPECT_FALSE(mailbox.wait_for_permission(60));
}

}  // namespace
}  // namespace espalier
