// `espalier launch` over several hosts: ranks, hosts and networks fail, and the run goes on. Hosts
// are namespaces of this machine; everything else is real.

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>

#include "fault/program.h"
#include "hosts/namespace_hosts.h"
#include "launch/protocol/tls.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;
using nlohmann::json;

constexpr double kPatience_s = 600;
constexpr int kForLong = 100'000;  // steps: the test ends before

class CoordinatorHosts : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = NamespaceHosts::why_not(); !reason.empty()) {
      GTEST_SKIP() << reason;
    }
    name_ = testing::UnitTest::GetInstance()->current_test_info()->name();
  }
  void TearDown() override {
    program_.reset();
    if (!hosts_ || !HasFailure()) return;
    for (const auto& entry : fs::recursive_directory_iterator(hosts_->directory())) {
      const auto extension = entry.path().extension();
      if (!entry.is_regular_file() || (extension != ".log" && extension != ".txt")) continue;
      std::printf("---- %s\n%s\n", entry.path().c_str(), read_text(entry.path()).c_str());
    }
    std::printf("---- events\n%s\n", events().c_str());
  }

  void make_hosts(const Strings& names) {
    workers_ = names;
    Strings all = names;
    all.insert(all.begin(), "head");
    hosts_ = std::make_unique<NamespaceHosts>(all);
    make_certificate(hosts_->directory() / "tls", {hosts_->address("head")});
    std::ofstream file(hosts_->directory() / "hosts");
    for (const auto& name : names) file << name << " slots=2\n";
  }

  fs::path run(const std::string& name) const { return hosts_->directory() / name; }
  fs::path run() const { return run(name_); }

  Strings launch(const std::string& name, int steps) const {
    Strings out = {ESPALIER_PROGRAM,
                   "launch",
                   std::string(ESPALIER_SOURCE_DIR) + "/tests/hosts/patches.toml",
                   "--hosts",
                   hosts_->directory() / "hosts",
                   "--min",
                   "2",
                   "--listen",
                   hosts_->address("head"),
                   "--tls",
                   hosts_->directory() / "tls",
                   "--agent",
                   std::string(ESPALIER_SOURCE_DIR) + "/tests/hosts/agent"};
    for (const std::string& setting :
         {"run.directory=" + run(name).string(), "stage.patches.steps=" + std::to_string(steps)}) {
      out.insert(out.end(), {"--set", setting});
    }
    return out;
  }
  void start(int steps) {
    program_ = hosts_->run("head", launch(name_, steps), hosts_->directory() / (name_ + ".txt"));
  }
  // The same job, undisturbed: to its end, or as far as the other one came.
  void train_reference(int steps) {
    auto reference =
        hosts_->run("head", launch("reference", steps), hosts_->directory() / "reference.txt");
    ASSERT_EQ(reference->wait(kPatience_s), 0) << reference->output();
  }
  void train_reference_as_far() {
    const int64_t steps = trained_steps(run());
    auto reference =
        hosts_->run("head", launch("reference", kForLong), hosts_->directory() / "reference.txt");
    ASSERT_TRUE(eventually(kPatience_s, [&] { return trained_steps(run("reference")) > steps; }))
        << reference->output();
    reference->signal(SIGTERM);
    ASSERT_EQ(reference->wait(kPatience_s), 75) << reference->output();
  }
  // With a checkpoint.
  void stop() {
    program_->signal(SIGTERM);
    ASSERT_EQ(program_->wait(kPatience_s), 75) << program_->output();
  }

  // All hosts are there again: the run grows, trains on, and is stopped.
  void takes_back_and_stops(int ranks) {
    ASSERT_TRUE(says("there is room for " + std::to_string(ranks) + " ranks again"))
        << program_->output();
    ASSERT_TRUE(says("generation 3, launcher pid")) << program_->output();
    ASSERT_TRUE(trains_on(10)) << program_->output();
    stop();
  }

  std::string events() const { return read_text(run() / "events.jsonl"); }
  bool says(const std::string& text, double within_s = kPatience_s) const {
    return eventually(within_s,
                      [&] {
                        return events().find(text) != std::string::npos || !program_->is_running();
                      }) &&
           events().find(text) != std::string::npos;
  }
  // Trained some steps more than now, and has committed one that there was not before.
  bool trains_on(int64_t steps) const {
    const int64_t before = trained_steps(run());
    const size_t saved = commits();
    return eventually(kPatience_s,
                      [&] {
                        return (trained_steps(run()) >= before + steps && commits() > saved) ||
                               !program_->is_running();
                      }) &&
           program_->is_running();
  }
  size_t commits() const {
    const std::string text = events();
    size_t count = 0;
    for (size_t at = 0; (at = text.find("\"committed\"", at)) != std::string::npos; ++at) ++count;
    return count;
  }
  // The real process of a rank, and the number that it has on its host.
  std::pair<int, int> process_of(int rank, const std::string& host) const {
    int pid = 0;
    hosts_->within("head", [&] { pid = pid_of_rank(run(), rank); });
    return {hosts_->pid_in_root(host, pid), pid};
  }
  double seconds_until(const std::string& text) const {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(says(text, 60)) << text;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  static std::map<int64_t, double> losses_of(const fs::path& run) {
    std::ifstream file(run / "metrics.jsonl");
    std::map<int64_t, double> losses;
    for (std::string line; std::getline(file, line);) {
      const json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!entry.is_object() || !entry.contains("total_loss")) continue;
      losses[entry.value("global_step", int64_t{-1})] = entry["total_loss"].get<double>();
    }
    return losses;
  }
  void expect_weights_of_reference() const {
    EXPECT_EQ(newest_checkpoint(run()), newest_checkpoint(run("reference")));
    EXPECT_TRUE(final_weights(run()) == final_weights(run("reference")));
  }
  // The same samples in the same steps: other ranks only add them up in another order.
  void expect_losses_of_reference() const {
    const auto expected = losses_of(run("reference"));
    const auto got = losses_of(run());
    ASSERT_GT(got.size(), 20u);
    double largest = 0;
    for (const auto& [step, loss] : got) {
      ASSERT_TRUE(expected.contains(step)) << step;
      largest = std::max(largest, std::abs(loss - expected.at(step)) / expected.at(step));
    }
    std::printf("losses of %zu steps differ by %.1e at most\n", got.size(), largest);
    EXPECT_LT(largest, 1e-5);
  }
  void expect_nothing_left() const {
    for (const auto& name : workers_) {
      EXPECT_TRUE(eventually(15, [&] { return hosts_->processes(name).empty(); })) << name;
    }
  }

  std::unique_ptr<NamespaceHosts> hosts_;
  Strings workers_;
  std::string name_;
  std::unique_ptr<Program> program_;
};

TEST_F(CoordinatorHosts, KilledRanksOfEachHostChangeNoBitOfTheResult) {
  make_hosts({"a", "b"});
  train_reference(120);
  start(120);
  for (const auto& [rank, host] : {std::pair(1, "a"), std::pair(2, "b")}) {
    ASSERT_TRUE(trains_on(10)) << program_->output();
    const auto [victim, pid_on_host] = process_of(rank, host);
    ASSERT_GT(victim, 0);
    ::kill(victim, SIGKILL);
    const std::string text = "rank " + std::to_string(rank) + " (pid " +
                             std::to_string(pid_on_host) + " on host " + host + ")";
    std::printf("%s named after %.1f s\n", text.c_str(), seconds_until(text));
  }
  ASSERT_TRUE(trains_on(10)) << program_->output();
  for (const auto& process : hosts_->processes("b")) ::kill(process.pid, SIGKILL);
  std::printf("all of host b named after %.1f s\n", seconds_until("generation 4, launcher pid"));
  ASSERT_EQ(program_->wait(kPatience_s), 0) << program_->output();
  expect_weights_of_reference();
  expect_nothing_left();
}

TEST_F(CoordinatorHosts, AHostThatDiesIsDoneWithoutAndTakenBackWhenItIsOnAgain) {
  make_hosts({"a", "b"});
  start(kForLong);
  ASSERT_TRUE(trains_on(10)) << program_->output();
  hosts_->kill_host("b");
  std::printf("dead host named after %.1f s\n", seconds_until("on host b) has been silent"));
  ASSERT_TRUE(says("generation 2 has 2 of 4 ranks, without b")) << program_->output();
  ASSERT_TRUE(trains_on(10)) << program_->output();
  hosts_->boot("b");
  takes_back_and_stops(4);
  expect_nothing_left();
  train_reference_as_far();
  expect_losses_of_reference();
}

TEST_F(CoordinatorHosts, AHostCutOffFor40SecondsIsDoneWithoutAndTakenBack) {
  make_hosts({"a", "b"});
  start(kForLong);
  ASSERT_TRUE(trains_on(10)) << program_->output();
  const auto cut_at = std::chrono::steady_clock::now();
  hosts_->partition("b");
  std::printf("silent host named after %.1f s\n", seconds_until("on host b) has been silent"));
  ASSERT_TRUE(says("generation 2 has 2 of 4 ranks, without b")) << program_->output();
  ASSERT_TRUE(trains_on(10)) << program_->output();
  std::this_thread::sleep_until(cut_at + std::chrono::seconds(40));
  hosts_->heal("b");
  takes_back_and_stops(4);
  expect_nothing_left();  // of the first generation either
  train_reference_as_far();
  expect_losses_of_reference();
}

TEST_F(CoordinatorHosts, ASlowHostIsWaitedFor) {
  make_hosts({"a", "b"});
  start(kForLong);
  ASSERT_TRUE(trains_on(10)) << program_->output();
  hosts_->slow("b", true);
  std::this_thread::sleep_for(std::chrono::seconds(12));
  hosts_->slow("b", false);
  ASSERT_TRUE(trains_on(10)) << program_->output();
  stop();
  EXPECT_EQ(events().find("generation 2"), std::string::npos);
}

TEST_F(CoordinatorHosts, FourHostsLoseOneAndGoOnWithSixRanks) {
  make_hosts({"a", "b", "c", "d"});
  start(kForLong);
  ASSERT_TRUE(trains_on(10)) << program_->output();
  hosts_->kill_host("c");
  ASSERT_TRUE(says("generation 2 has 6 of 8 ranks, without c")) << program_->output();
  ASSERT_TRUE(trains_on(10)) << program_->output();
  hosts_->boot("c");
  takes_back_and_stops(8);
  expect_nothing_left();
  train_reference_as_far();
  expect_losses_of_reference();
}

}  // namespace
}  // namespace espalier
