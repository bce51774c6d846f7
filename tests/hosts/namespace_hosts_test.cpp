// Hosts made of namespaces: what the tests across hosts stand on.

#include "hosts/namespace_hosts.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>

namespace espalier {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

class NamespaceHostsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = NamespaceHosts::why_not(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
    hosts_ = std::make_unique<NamespaceHosts>(std::vector<std::string>{"head", "a", "b"},
                                              std::vector<fs::path>{"disk"});
  }

  std::unique_ptr<Program> start(const std::string& host, const std::string& script) {
    output_ = hosts_->directory() / ("output-" + std::to_string(++count_));
    return hosts_->run(host, {"sh", "-c", script}, output_);
  }
  // What the script printed, with its exit code in front.
  std::string say(const std::string& host, const std::string& script) {
    const auto program = start(host, script);
    const int code = program->wait(30);
    return std::to_string(code) + " " + program->output();
  }
  std::string ask(const std::string& from, const std::string& to, const std::string& command) {
    const auto begin = steady_clock::now();
    std::string answer = say(from, agent_ + " " + to + " '" + command + "'");
    asked_for_s_ = std::chrono::duration<double>(steady_clock::now() - begin).count();
    return answer;
  }

  const std::string agent_ = std::string(ESPALIER_SOURCE_DIR) + "/tests/hosts/agent";
  std::unique_ptr<NamespaceHosts> hosts_;
  fs::path output_;
  int count_ = 0;
  double asked_for_s_ = 0;
};

TEST_F(NamespaceHostsTest, HaveNamesAndAddressesAndProcessesOfTheirOwn) {
  EXPECT_EQ(say("head", "hostname"), "0 head\n");
  EXPECT_EQ(say("a", "hostname"), "0 a\n");
  EXPECT_EQ(say("a", "getent hosts b"), "0 10.77.0.3       b\n");
  EXPECT_EQ(hosts_->address("b"), "10.77.0.3");
  EXPECT_EQ(say("b", "ip -brief -4 address show dev eth0 | tr -s ' ' | cut -d' ' -f3"),
            "0 10.77.0.3/24\n");
  // Its first process, the shell and ls.
  EXPECT_EQ(say("a", "set -- /proc/[0-9]*; echo $#"), "0 2\n");
}

TEST_F(NamespaceHostsTest, ShareFilesExceptThoseThatEachHasForItself) {
  const std::string shared = (hosts_->directory() / "shared").string();
  const std::string disk = (hosts_->directory() / "disk/file").string();
  EXPECT_EQ(say("a", "echo from a | tee " + shared + " " + disk + " /tmp/file /dev/shm/file"),
            "0 from a\n");
  EXPECT_EQ(say("b", "cat " + shared), "0 from a\n");
  EXPECT_EQ(read_text(shared), "from a\n");
  EXPECT_EQ(say("a", "cat " + disk), "0 from a\n");
  for (const std::string& path : {disk, std::string("/tmp/file"), std::string("/dev/shm/file")}) {
    EXPECT_EQ(say("b", "test -e " + path), "1 ") << path;
    EXPECT_FALSE(fs::exists(path)) << path;
  }
  // Where the test stands, and so the sources, are seen wherever they lie.
  EXPECT_EQ(say("b", "pwd"), "0 " + fs::current_path().string() + "\n");
  EXPECT_EQ(say("b", "test -x " + agent_), "0 ");
}

TEST_F(NamespaceHostsTest, AgentRunsCommandsOnAnotherHostAsSshDoes) {
  EXPECT_EQ(ask("head", "a", "hostname; exit 3"), "3 a\n");
  EXPECT_EQ(ask("head", "b", "echo out; pwd"), "0 out\n/root\n");
  EXPECT_EQ(say("head", agent_ + " b 'echo out; echo err >&2' >/dev/null"), "0 err\n");
  EXPECT_EQ(say("head", "SECRET=1 " + agent_ + " a env | sort | cut -d= -f1 | tr '\\n' ' '"),
            "0 HOME PATH PWD USER ");
  EXPECT_EQ(say("head", "seq 100000 | " + agent_ + " a wc -l"), "0 100000\n");
  EXPECT_EQ(say("head", agent_ + " a seq 100000 | tail -1"), "0 100000\n");
  EXPECT_EQ(ask("head", "a", "kill -9 $$"), "137 ");
  EXPECT_EQ(ask("head", "nowhere", "true").substr(0, 4), "255 ");
}

TEST_F(NamespaceHostsTest, KilledHostLosesAllProcessesAndRefusesAtOnce) {
  const auto victim = start("a", "sleep 1000 & trap '' TERM HUP INT; sleep 1000");
  ASSERT_TRUE(eventually(5, [&] { return hosts_->processes("a").size() == 3; }));
  const auto seen = hosts_->processes("a");
  EXPECT_EQ(hosts_->pid_in_root("a", seen[1].pid_in_host), seen[1].pid);

  hosts_->kill_host("a");

  EXPECT_TRUE(hosts_->processes("a").empty());
  for (const auto& process : seen)
    EXPECT_FALSE(fs::exists(fs::path("/proc") / std::to_string(process.pid)) &&
                 process.pid != victim->pid());
  EXPECT_EQ(victim->wait(5), 137);
  EXPECT_EQ(ask("head", "a", "true").substr(0, 4), "255 ");
  EXPECT_LT(asked_for_s_, 2);
  EXPECT_EQ(ask("head", "b", "hostname"), "0 b\n");
}

TEST_F(NamespaceHostsTest, KilledHostSaysNothingToItsPeers) {
  const auto peer = start("head", agent_ + " a 'sleep 1000'");
  ASSERT_TRUE(eventually(5, [&] { return !hosts_->processes("a").empty(); }));
  hosts_->kill_host("a");
  EXPECT_EQ(peer->wait(2), -1) << peer->output();
}

TEST_F(NamespaceHostsTest, BootedHostIsTheSameWithNothingLeft) {
  EXPECT_EQ(say("a", "touch /tmp/old " + (hosts_->directory() / "disk/old").string()), "0 ");
  for (int i = 0; i < 2; ++i) {
    hosts_->kill_host("a");
    EXPECT_THROW(hosts_->run("a", {"true"}, hosts_->directory() / "none"), std::runtime_error);
    hosts_->boot("a");
    EXPECT_EQ(ask("head", "a", "hostname"), "0 a\n");
    EXPECT_LT(asked_for_s_, 2);
    EXPECT_EQ(ask("a", "b", "hostname"), "0 b\n");
  }
  EXPECT_EQ(say("a", "ls /tmp/old " + (hosts_->directory() / "disk/old").string()).substr(0, 2),
            "2 ");
}

TEST_F(NamespaceHostsTest, PartitionMakesSilenceAndHealEndsIt) {
  const auto talk = start("head", agent_ + " a 'while sleep 0.1; do date +%s; done'");
  ASSERT_TRUE(eventually(5, [&] { return talk->output().size() > 20; }));

  hosts_->partition("a");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const std::string heard = talk->output();
  EXPECT_EQ(say("a", "cat /sys/class/net/eth0/operstate"), "0 up\n");
  EXPECT_EQ(ask("head", "a", "true").substr(0, 4), "255 ");
  EXPECT_GT(asked_for_s_, 9);
  EXPECT_LT(asked_for_s_, 12);
  EXPECT_EQ(ask("b", "head", "hostname"), "0 head\n");
  EXPECT_EQ(talk->output(), heard);
  EXPECT_TRUE(talk->is_running());

  hosts_->heal("a");
  EXPECT_EQ(ask("head", "a", "hostname"), "0 a\n");
  EXPECT_TRUE(eventually(30, [&] { return talk->output().size() > heard.size(); }));
  talk->signal(SIGKILL);
}

TEST_F(NamespaceHostsTest, SlowHostDoesATenthOfTheWork) {
  const auto count_for_two_seconds = [this] {
    return std::stol(say("a",
                         "i=0; end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do "
                         "i=$((i+1)); done; echo $i")
                         .substr(2));
  };
  const long usual = count_for_two_seconds();
  hosts_->slow("a", true);
  const long slow = count_for_two_seconds();
  hosts_->slow("a", false);
  EXPECT_LT(slow * 3, usual);
  EXPECT_GT(count_for_two_seconds() * 2, usual);
}

TEST_F(NamespaceHostsTest, LoopbackOfAHostIsReachedFromWithin) {
  const auto server = start("a", "exec python3 -m http.server --bind 127.0.0.1 8000");
  const std::string fetch =
      "python3 -c \"import urllib.request as r; r.urlopen('http://127.0.0.1:8000')\" 2>/dev/null";
  bool is_reached = false;
  hosts_->within(
      "a", [&] { is_reached = eventually(10, [&] { return std::system(fetch.c_str()) == 0; }); });
  EXPECT_TRUE(is_reached);
  EXPECT_NE(std::system(fetch.c_str()), 0);
  server->signal(SIGKILL);
}

// The test program itself may be killed: by CTest when its time is over, or by a person.
TEST_F(NamespaceHostsTest, NothingOutlivesAKilledTest) {
  const fs::path report = fs::path(testing::TempDir()) / ("killed-" + std::to_string(::getpid()));
  const int child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    NamespaceHosts others({"x", "y"});
    const auto sleeper = others.run("x", {"sleep", "1000"}, others.directory() / "output");
    std::ofstream(report) << others.directory().string() << "\n" << sleeper->pid() << std::endl;
    ::pause();
  }
  std::string directory;
  int sleeper = 0;
  ASSERT_TRUE(eventually(10, [&] {
    std::ifstream file(report);
    return static_cast<bool>(file >> directory >> sleeper);
  }));
  fs::remove(report);
  EXPECT_TRUE(fs::exists(directory));
  ::kill(child, SIGKILL);
  EXPECT_TRUE(eventually(5, [&] { return ::kill(sleeper, 0) != 0; }));
  EXPECT_TRUE(eventually(10, [&] { return !fs::exists(directory); }));
}

}  // namespace
}  // namespace espalier
