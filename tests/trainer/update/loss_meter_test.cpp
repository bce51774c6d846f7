#include "trainer/update/loss_meter.h"

#include <gtest/gtest.h>

namespace espalier {
namespace {

const std::vector<StageLoss> kLosses = {{"a", 1.0, 0}, {"b", 0.5, 1}};

TEST(LossMeter, AveragesEveryLossOverItsOwnTargetsOfTheInterval) {
  LossMeter meter(kLosses);
  meter.add({6.0, 1.0}, {2.0, 1.0});
  meter.add({2.0, 0.0}, {2.0, 0.0});
  EXPECT_DOUBLE_EQ(meter.means().at("a"), 2.0);
  EXPECT_DOUBLE_EQ(meter.means().at("b"), 1.0);
  EXPECT_DOUBLE_EQ(meter.total(), 2.5);
}

TEST(LossMeter, ALossThatWasNotDrawnInTheIntervalIsAbsentButStaysInTheTotal) {
  LossMeter meter(kLosses);
  meter.add({6.0, 4.0}, {2.0, 1.0});
  meter.start_interval();
  meter.add({1.0, 0.0}, {1.0, 0.0});
  EXPECT_DOUBLE_EQ(meter.means().at("a"), 1.0);
  EXPECT_FALSE(meter.means().contains("b"));
  EXPECT_DOUBLE_EQ(meter.total(), 3.0);
}

TEST(LossMeter, ALossThatNeverHadTargetsIsNotReported) {
  LossMeter meter(kLosses);
  meter.add({1.0, 0.0}, {1.0, 0.0});
  EXPECT_FALSE(meter.means().contains("b"));
}

TEST(LossMeter, GoesOnFromACheckpointAsIfNeverStopped) {
  LossMeter straight(kLosses);
  straight.add({6.0, 4.0}, {2.0, 1.0});
  straight.start_interval();
  straight.add({0.1, 0.0}, {3.0, 0.0});
  LossMeter resumed(kLosses);
  resumed.restore(nlohmann::json::parse(straight.state().dump()));
  for (LossMeter* meter : {&straight, &resumed}) meter->add({0.7, 0.0}, {7.0, 0.0});
  EXPECT_EQ(resumed.means(), straight.means());
  EXPECT_EQ(resumed.total(), straight.total());
}

}  // namespace
}  // namespace espalier
