#include "trainer/simulator/child_process.h"

#include <csignal>

#include <gtest/gtest.h>

#include "trainer/errors.h"

namespace espalier {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(ChildProcess, TellsExitStatusAndLastLines) {
  ChildProcess child({"sh", "-c", "for i in $(seq 100); do echo line $i; done; exit 3"});
  ASSERT_TRUE(child.wait(milliseconds(20000)));
  EXPECT_EQ(child.state(), "process " + std::to_string(child.pid()) + " ended with exit status 3");
  EXPECT_TRUE(child.last_lines().ends_with("\n  line 99\n  line 100"));
  EXPECT_EQ(child.last_lines().find("line 88\n"), std::string::npos);
}

TEST(ChildProcess, TellsTheSignalThatEndedIt) {
  ChildProcess child({"sh", "-c", "kill -KILL $$"});
  ASSERT_TRUE(child.wait(milliseconds(20000)));
  EXPECT_NE(child.state().find("signal 9 (Killed)"), std::string::npos) << child.state();
}

TEST(ChildProcess, SaysThatAProgramIsNotThere) {
  try {
    ChildProcess child({"no-such-program"});
    FAIL() << "it started";
  } catch (const SimulatorError& error) {
    EXPECT_STREQ(error.what(), "cannot start no-such-program: No such file or directory");
  }
}

TEST(ChildProcess, IsEndedByItsDestructorEvenWhenItIgnoresSigterm) {
  pid_t pid = 0;
  const auto begin = steady_clock::now();
  {
    ChildProcess child({"sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"});
    pid = child.pid();
    while (child.last_lines().empty()) ASSERT_FALSE(child.wait(milliseconds(20)));
    EXPECT_EQ(child.state(), "process " + std::to_string(pid) + " is still running");
    child.end(milliseconds(200));
    EXPECT_NE(child.state().find("signal 9"), std::string::npos) << child.state();
  }
  EXPECT_LT(steady_clock::now() - begin, milliseconds(20000));
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(ChildProcess, KeepsOnlyTheEndOfAFloodOfOutput) {
  ChildProcess child(
      {"sh", "-c", "yes a long line of output | head -c 3000000; echo; echo the end"});
  ASSERT_TRUE(child.wait(milliseconds(60000)));
  EXPECT_TRUE(child.last_lines().ends_with("\n  the end"));
  EXPECT_LT(child.last_lines().size(), 1000U);
}

}  // namespace
}  // namespace espalier
