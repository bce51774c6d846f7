// What the coordinator decides when ranks are on several hosts, of which some go and come back.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "coordinator_of_two.h"
#include "launch/coordinator/coordinator.h"
#include "launch/coordinator/host_probe.h"
#include "launch/coordinator/stalled_exchange.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

std::vector<HostState> hosts(const std::vector<bool>& answer) {
  std::vector<HostState> out;
  for (size_t i = 0; i < answer.size(); ++i) {
    out.push_back({{std::string(1, static_cast<char>('a' + i)), 2}, answer[i], ""});
  }
  return out;
}

class CoordinatorOfHosts : public PlayedCoordinator {
 protected:
  CoordinatorOfHosts() : PlayedCoordinator(WorldChoice{{4, 2}, true}) {}

  std::string notes() {
    std::string out;
    for (const auto& note : take<NoteEvent>()) out += note.event + ": " + note.text + "\n";
    return out;
  }
  // The ranks of the launch that was just asked for come up, two on each host.
  void come_up(int ranks) {
    const uint32_t g = machine_.generation();
    tell(LauncherStarted{g, 1000});
    for (int rank = 0; rank < ranks; ++rank) {
      tell(RankJoined{g, rank, 2000 + rank, std::string(1, static_cast<char>('a' + rank / 2)),
                      /*is_local=*/false});
    }
  }
  void beat(int ranks, int64_t step) {
    for (int rank = 0; rank < ranks; ++rank) {
      tell(RankBeat{machine_.generation(), rank, step, Phase::kForwardBackward});
    }
  }
  void pass(double seconds, int beating_ranks) {
    for (double t = 0; t < seconds; t += 0.5) {
      now_ += 0.5;
      beat(beating_ranks, ++step_);
      tell(ClockTick{});
    }
  }

  int64_t step_ = 0;
};

TEST_F(CoordinatorOfHosts, LooksForHostsAndLaunchesOnThoseThatAnswer) {
  tell(CoordinatorStart{});
  EXPECT_EQ(take<FindHosts>().size(), 1u);
  EXPECT_TRUE(take<LaunchJob>().empty());
  tell(HostsFound{hosts({true, false})});
  const auto launches = take<LaunchJob>();
  ASSERT_EQ(launches.size(), 1u);
  EXPECT_EQ(launches[0].ranks, 2);
  ASSERT_EQ(launches[0].hosts.size(), 1u);
  EXPECT_EQ(launches[0].hosts[0].name, "a");
  EXPECT_NE(notes().find("shrunk: generation 1 has 2 of 4 ranks, without b"), std::string::npos);
}

TEST_F(CoordinatorOfHosts, WaitsWhenTooFewAnswerAndEndsWith75WhenNoneCome) {
  tell(CoordinatorStart{});
  tell(HostsFound{hosts({false, false})});
  EXPECT_TRUE(take<LaunchJob>().empty());
  EXPECT_NE(notes().find("waiting: for room for 2 ranks, without a, b"), std::string::npos);
  take<FindHosts>();
  now_ += 11;
  tell(ClockTick{});
  EXPECT_EQ(take<FindHosts>().size(), 1u);
  tell(HostsFound{hosts({false, false})});
  EXPECT_EQ(notes(), "");  // said once
  now_ += DeadlineConfig{}.hosts;
  tell(ClockTick{});
  tell(HostsFound{hosts({false, false})});
  const auto finish = take<FinishRun>();
  ASSERT_EQ(finish.size(), 1u);
  EXPECT_EQ(finish[0].exit_code, kExitStopped);
}

TEST_F(CoordinatorOfHosts, NamesAHostWhoseRanksAllHungUpWithinThreeSeconds) {
  tell(CoordinatorStart{});
  tell(HostsFound{hosts({true, true})});
  come_up(4);
  pass(5, 4);
  for (int rank : {2, 3}) tell(RankHungUp{machine_.generation(), rank, /*process_gone=*/false});
  pass(1.5, 2);
  EXPECT_EQ(notes().find("failure"), std::string::npos);
  pass(1, 2);
  const std::string said = notes();
  EXPECT_NE(said.find("rank 2 (pid 2002 on host b) hung up and did not come back, and so did all 2 "
                      "ranks of host b"),
            std::string::npos)
      << said;
}

TEST_F(CoordinatorOfHosts, NamesTheRankThatHungUpFirstWhenTheLauncherIsQuicker) {
  tell(CoordinatorStart{});
  tell(HostsFound{hosts({true, true})});
  come_up(4);
  pass(5, 4);
  for (int rank : {3, 0, 1, 2}) {
    now_ += 0.1;
    tell(RankHungUp{machine_.generation(), rank, /*process_gone=*/false});
  }
  tell(LauncherExited{137});
  EXPECT_NE(notes().find("failure: rank 3 (pid 2003 on host b) hung up, and the launcher ended "
                         "with status 137"),
            std::string::npos);
}

TEST_F(CoordinatorOfHosts, ForgivesARankThatHungUpAndCameBack) {
  tell(CoordinatorStart{});
  tell(HostsFound{hosts({true, true})});
  come_up(4);
  pass(5, 4);
  tell(RankHungUp{machine_.generation(), 3, /*process_gone=*/false});
  pass(1, 3);
  tell(RankJoined{machine_.generation(), 3, 2003, "b", false});
  pass(5, 4);
  EXPECT_EQ(notes().find("failure"), std::string::npos);
}

TEST_F(CoordinatorOfHosts, GrowsAgainWhenAHostIsBackAndSpendsNoRestartOnIt) {
  tell(CoordinatorStart{});
  tell(HostsFound{hosts({true, false})});
  come_up(2);
  pass(11, 2);
  ASSERT_EQ(take<FindHosts>().size(), 2u);  // for the launch, and then for what is missing
  tell(HostsFound{hosts({true, true})});
  EXPECT_TRUE(take<SendStop>().empty());  // seen once: it may come and go
  pass(11, 2);
  ASSERT_EQ(take<FindHosts>().size(), 1u);
  tell(HostsFound{hosts({true, true})});
  ASSERT_EQ(take<SendStop>().size(), 1u);
  EXPECT_EQ(machine_.state(), CoordinatorState::kDraining);

  for (int rank : {0, 1}) tell(RankBye{machine_.generation(), rank, kExitStopped});
  tell(LauncherExited{kExitStopped});
  EXPECT_TRUE(take<FinishRun>().empty());
  ASSERT_EQ(take<FindHosts>().size(), 1u);
  tell(HostsFound{hosts({true, true})});
  const auto launches = take<LaunchJob>();
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[1].ranks, 4);
  EXPECT_EQ(machine_.restarts(), 0);
}

TEST_F(CoordinatorOfHosts, StopsForAnOperatorEvenWhileItGrows) {
  tell(CoordinatorStart{});
  tell(HostsFound{hosts({true, false})});
  come_up(2);
  for (int i = 0; i < 2; ++i) {
    pass(11, 2);
    tell(HostsFound{hosts({true, true})});
  }
  ASSERT_EQ(machine_.state(), CoordinatorState::kDraining);
  tell(StopRequested{"SIGTERM"});
  for (int rank : {0, 1}) tell(RankBye{machine_.generation(), rank, kExitStopped});
  tell(LauncherExited{kExitStopped});
  const auto finish = take<FinishRun>();
  ASSERT_EQ(finish.size(), 1u);
  EXPECT_EQ(finish[0].exit_code, kExitStopped);
}

TEST(PlanWorld, TakesTheLargestSizeThatFitsInTheOrderOfTheList) {
  const WorldChoice choice{{6, 4, 3}, true};
  EXPECT_EQ(plan_world(choice, hosts({true, true, true})).ranks, 6);
  const WorldPlan five = plan_world(choice, {{{"a", 2}, true, ""}, {{"b", 3}, true, ""}});
  EXPECT_EQ(five.ranks, 4);
  ASSERT_EQ(five.hosts.size(), 2u);
  EXPECT_EQ(five.hosts[1].slots, 2);
  EXPECT_EQ(plan_world(choice, hosts({false, true, false})).ranks, 0);
  EXPECT_EQ(plan_world(choice, {{{"x", 9}, false, "does not answer"}}).without,
            "x (does not answer)");
}

RankView waiting(uint64_t issued, uint64_t finished, const std::string& name) {
  RankView view;
  view.joined = true;
  view.exchange = BeatMessage::Exchange{issued, finished, name, 3.0};
  return view;
}

TEST(StalledExchange, NamesTheOperationWhoIsThereAndWhoIsMissing) {
  const std::string op = "all_reduce(Float[512], sum)";
  EXPECT_EQ(describe_stalled_exchange({waiting(9, 8, op), waiting(8, 8, ""), waiting(9, 8, op)}),
            op + ", operation 9: ranks 0, 2 wait in it, rank 1 has not come to it");
  EXPECT_EQ(describe_stalled_exchange({waiting(8, 8, ""), waiting(8, 8, "")}), "");
  EXPECT_EQ(describe_stalled_exchange({waiting(9, 8, op), waiting(9, 8, op)}),
            op + ", operation 9: ranks 0, 1 wait in it");
}

class HostsFile : public testing::Test {
 protected:
  std::vector<HostSlots> read(const std::string& text) {
    const auto path =
        std::filesystem::path(testing::TempDir()) / ("hosts-" + std::to_string(::getpid()));
    std::ofstream(path) << text;
    return read_hosts(path);
  }
};

TEST_F(HostsFile, IsReadInTheFormsPeopleHave) {
  const auto found = read("# ours\na:2\nb slots=4  # the new one\n\nc\n");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].slots, 2);
  EXPECT_EQ(found[1].name, "b");
  EXPECT_EQ(found[1].slots, 4);
  EXPECT_EQ(found[2].slots, 1);
}

TEST_F(HostsFile, IsRefusedWithTheLineThatIsWrong) {
  for (const char* wrong : {"a:0", "a:x", "a cpus=4", "a slots=2 max=3", ""}) {
    EXPECT_THROW(read(wrong), ConfigError) << wrong;
  }
}

TEST(HostProbe, TellsHostsThatRefuseFromThoseThatDoNotAnswer) {
  const auto folder =
      std::filesystem::path(testing::TempDir()) / ("probe-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto agent = folder / "agent";
  std::ofstream(agent)
      << "#!/bin/sh\ncase $1 in good) exec $2;; silent) sleep 60;; *) exit 7;; esac\n";
  std::filesystem::permissions(agent, std::filesystem::perms::owner_all);
  Children children;
  HostProbe probe({{"localhost", 1}, {"good", 2}, {"bad", 2}, {"silent", 2}}, agent.string(), 1.5,
                  children);
  probe.start(0);
  std::optional<std::vector<HostState>> found;
  for (int i = 0; i < 1000 && !found; ++i) {
    ::usleep(10'000);
    children.reap();
    found = probe.poll(0.01 * i);
  }
  ASSERT_TRUE(found);
  EXPECT_TRUE((*found)[0].answers);
  EXPECT_TRUE((*found)[1].answers);
  EXPECT_FALSE((*found)[2].answers);
  EXPECT_NE((*found)[2].why.find("ended with 7"), std::string::npos);
  EXPECT_EQ((*found)[3].why, "does not answer");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace espalier
