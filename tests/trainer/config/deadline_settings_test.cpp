#include "trainer/config/deadline_settings.h"

#include <gtest/gtest.h>

#include "trainer/errors.h"

namespace espalier {
namespace {

TEST(DeadlineSettings, SetEveryDeadlineByItsKey) {
  DeadlineConfig config;
  Settings settings;
  declare_deadline_settings(settings, config);
  for (const Setting& setting : settings.all()) {
    EXPECT_TRUE(setting.key.starts_with("deadline.")) << setting.key;
    EXPECT_FALSE(setting.spec.unit.empty()) << setting.key;
  }
  settings.set_from_argument("deadline.step_floor=120");
  settings.set_from_argument("deadline.launches_without_commit=5");
  EXPECT_EQ(config.step_floor, 120);
  EXPECT_EQ(config.launches_without_commit, 5);
  EXPECT_THROW(settings.set_from_argument("deadline.mpi=0"), ConfigError);
}

TEST(DeadlineSettings, AreRefusedWhenARankWouldBeDeadBeforeItIsSuspect) {
  DeadlineConfig config;
  EXPECT_NO_THROW(validate_deadlines(config, "a.toml"));
  config.suspect_after = config.dead_after;
  EXPECT_THROW(validate_deadlines(config, "a.toml"), ConfigError);
}

}  // namespace
}  // namespace espalier
