// `mpirun … espalier train` across hosts, without a coordinator: the same weights as on one host,
// and what Open MPI makes of ranks, hosts and networks that fail. docs/hosts.md has the measured
// times.

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>

#include "fault/program.h"
#include "hosts/namespace_hosts.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;
using std::chrono::steady_clock;

constexpr double kPatience_s = 300;
constexpr int kLostCommunication = 205;  // status of mpirun
// Silence of 3 s + 3 probes, 1 s apart: then a connection between mpirun and its daemons is lost.
Strings short_keepalive() {
  return {"--mca", "oob_tcp_keepalive_time",   "3", "--mca", "oob_tcp_keepalive_intvl", "1",
          "--mca", "oob_tcp_keepalive_probes", "3"};
}

class MpirunHosts : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = NamespaceHosts::why_not(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
    hosts_ = std::make_unique<NamespaceHosts>(Strings{"head", "a", "b", "c", "d"});
  }
  void TearDown() override {
    if (hosts_ && HasFailure()) {
      for (const auto& [name, program] : programs_) {
        std::printf("---- %s\n%s\n", name.c_str(), program->output().c_str());
      }
    }
    programs_.clear();
  }

  fs::path run(const std::string& name) const { return hosts_->directory() / name; }

  // `where` is empty for ranks that stay on head.
  Program& mpirun(const std::string& name, int ranks, const std::string& where,
                  const Strings& options, const Strings& command) {
    Strings arguments = {"mpirun",    "-n",  std::to_string(ranks), "--allow-run-as-root",
                         "--bind-to", "none"};
    if (where.empty()) {
      arguments.push_back("--oversubscribe");
    } else {
      arguments.insert(arguments.end(), {"--host", where, "--mca", "plm_rsh_agent",
                                         std::string(ESPALIER_SOURCE_DIR) + "/tests/hosts/agent"});
    }
    arguments.insert(arguments.end(), options.begin(), options.end());
    arguments.insert(arguments.end(), command.begin(), command.end());
    auto& program = programs_[name];
    program = hosts_->run("head", arguments, hosts_->directory() / (name + ".txt"));
    return *program;
  }
  Strings training(const std::string& name, int steps) const {
    Strings out = {ESPALIER_PROGRAM, "train",
                   std::string(ESPALIER_SOURCE_DIR) + "/tests/fault/tiny.toml"};
    for (const std::string& setting :
         {"run.directory=" + run(name).string(), "stage.codes.steps=" + std::to_string(steps),
          std::string("stage.both.steps=10"), std::string("stage.codes.batch_size=16"),
          std::string("stage.both.batch_size=16"), std::string("evaluation.max_samples=16")}) {
      out.insert(out.end(), {"--set", setting});
    }
    return out;
  }
  // Trains on two hosts, for longer than the test lasts, and is in the middle of it.
  Program& train_for_long(const Strings& options) {
    Program& program = mpirun("long", 4, "a:2,b:2", options, training("long", 100000));
    EXPECT_TRUE(is_at_step("long", 10)) << program.output();
    return program;
  }
  bool is_at_step(const std::string& name, int64_t step) const {
    return eventually(kPatience_s, [&] { return trained_steps(run(name)) >= step; });
  }
  int a_rank_on(const std::string& host) const {
    for (const auto& process : hosts_->processes(host)) {
      if (process.command.starts_with(ESPALIER_PROGRAM)) return process.pid;
    }
    return 0;
  }
  bool is_empty(const std::string& host, double within_s) const {
    return eventually(within_s, [&] { return hosts_->processes(host).empty(); });
  }
  std::string files_of_open_mpi(const std::string& host) {
    const fs::path output = hosts_->directory() / "files.txt";
    fs::remove(output);
    hosts_->run(host, {"sh", "-c", "ls -d /tmp/ompi.* /dev/shm/* 2>/dev/null"}, output)->wait(10);
    return read_text(output);
  }
  void expect_same_weights(const std::string& name, const std::string& other) const {
    EXPECT_EQ(newest_checkpoint(run(name)), newest_checkpoint(run(other)));
    EXPECT_GT(newest_checkpoint(run(name)), 0);
    EXPECT_TRUE(final_weights(run(name)) == final_weights(run(other)));
  }

  std::unique_ptr<NamespaceHosts> hosts_;
  std::map<std::string, std::unique_ptr<Program>> programs_;
};

TEST_F(MpirunHosts, TrainTheSameWeightsOnTwoHostsAsOnOne) {
  ASSERT_EQ(mpirun("one", 4, "", {}, training("one", 20)).wait(kPatience_s), 0);
  ASSERT_EQ(mpirun("two", 4, "a:2,b:2", {}, training("two", 20)).wait(kPatience_s), 0);
  expect_same_weights("two", "one");
}

TEST_F(MpirunHosts, TrainTheSameWeightsOnFourHostsAsOnOne) {
  ASSERT_EQ(mpirun("one", 8, "", {}, training("one", 20)).wait(kPatience_s), 0);
  ASSERT_EQ(mpirun("four", 8, "a:2,b:2,c:2,d:2", {}, training("four", 20)).wait(kPatience_s), 0);
  expect_same_weights("four", "one");
}

TEST_F(MpirunHosts, GiveRanksTheVariablesOfMinusXAndMcaParametersButNoOthers) {
  const Strings show = {"sh", "-c",
                        "env | grep -c ^KNOWN_; echo \"$OMPI_MCA_btl_tcp_links\" at $PWD"};
  ::setenv("KNOWN_HERE", "1", 1);
  ::setenv("OMPI_MCA_btl_tcp_links", "3", 1);
  const int code = mpirun("plain", 1, "a:1", {}, show).wait(30);
  const int code_of_export = mpirun("export", 1, "a:1", {"-x", "KNOWN_HERE"}, show).wait(30);
  ::unsetenv("KNOWN_HERE");
  ::unsetenv("OMPI_MCA_btl_tcp_links");
  EXPECT_EQ(code, 0);
  EXPECT_EQ(code_of_export, 0);
  const std::string place = "3 at " + fs::current_path().string() + "\n";
  EXPECT_NE(programs_["plain"]->output().find("0\n" + place), std::string::npos);
  EXPECT_NE(programs_["export"]->output().find("1\n" + place), std::string::npos);
}

// As with docker0: Open MPI takes the one that is equal for a way to the others, and waits there.
TEST_F(MpirunHosts, MeetOnTheGivenNetworkWhereAllHostsHaveAnEqualAddressToo) {
  for (const std::string host : {"head", "a", "b"}) {
    const auto second =
        hosts_->run(host,
                    {"sh", "-ec",
                     "ip link add docker0 type veth peer name container; ip link set container up; "
                     "ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up"},
                    hosts_->directory() / "second.txt");
    ASSERT_EQ(second->wait(10), 0) << second->output();
  }
  train_for_long({"--mca", "btl_tcp_if_include", "10.77.0.0/24"});
}

TEST_F(MpirunHosts, LoseAllRanksWhenOneIsKilled) {
  Program& program = train_for_long({});
  EXPECT_NE(files_of_open_mpi("a").find("/tmp/ompi.a."), std::string::npos);
  ASSERT_GT(a_rank_on("b"), 0);
  ::kill(a_rank_on("b"), SIGKILL);
  EXPECT_EQ(program.wait(15), 137);
  for (const std::string host : {"head", "a", "b"}) {
    EXPECT_TRUE(is_empty(host, 5)) << host;
    EXPECT_EQ(files_of_open_mpi(host), "") << host;
  }
}

TEST_F(MpirunHosts, LoseAllRanksWhenMpirunIsKilled) {
  Program& program = train_for_long({});
  program.signal(SIGKILL);
  for (const std::string host : {"a", "b"}) EXPECT_TRUE(is_empty(host, 10)) << host;
}

TEST_F(MpirunHosts, NoticeADeadHostByKeepalivesAndEndOnTheOthers) {
  Program& program = train_for_long(short_keepalive());
  hosts_->kill_host("b");
  EXPECT_EQ(program.wait(3), -1) << "nobody could know yet";
  EXPECT_EQ(program.wait(20), kLostCommunication);
  for (const std::string host : {"head", "a"}) EXPECT_TRUE(is_empty(host, 5)) << host;
}

TEST_F(MpirunHosts, EndOnBothSidesOfAPartitionByKeepalives) {
  Program& program = train_for_long(short_keepalive());
  hosts_->partition("b");
  EXPECT_EQ(program.wait(20), kLostCommunication);
  EXPECT_TRUE(is_empty("a", 5));
  EXPECT_TRUE(is_empty("b", 20)) << "while it is cut off";
}

TEST_F(MpirunHosts, OutliveAPartitionShorterThanTheirKeepalivesWithTheSameWeights) {
  ASSERT_EQ(mpirun("whole", 4, "a:2,b:2", {}, training("whole", 60)).wait(kPatience_s), 0);
  Program& program = mpirun("cut", 4, "a:2,b:2", {}, training("cut", 60));
  ASSERT_TRUE(is_at_step("cut", 10)) << program.output();
  hosts_->partition("b");
  std::this_thread::sleep_for(std::chrono::seconds(10));
  const int64_t stopped_at = trained_steps(run("cut"));
  EXPECT_LT(stopped_at, 60);
  EXPECT_TRUE(program.is_running());
  hosts_->heal("b");
  ASSERT_EQ(program.wait(kPatience_s), 0);
  expect_same_weights("cut", "whole");
}

TEST_F(MpirunHosts, FailToStartWhereAHostIsDead) {
  hosts_->kill_host("b");
  const auto begin = steady_clock::now();
  Program& program = mpirun("dead", 4, "a:2,b:2", {}, {"hostname"});
  const int code = program.wait(30);
  EXPECT_GT(code, 0) << "-1: still waiting";
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(10));
  EXPECT_NE(program.output().find("agent: host b"), std::string::npos);
  EXPECT_TRUE(is_empty("a", 10));
}

}  // namespace
}  // namespace espalier
