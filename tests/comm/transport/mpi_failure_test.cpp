// What a lost rank does to the others: an error or an end, in bounded time.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace espalier {
namespace {

struct Outcome {
  int exit_code = -1;
  double seconds = 0;
  std::string output;
};

std::string dump_directory() {
  return testing::TempDir() + "collectives-" + std::to_string(::getpid());
}

Outcome run_two_ranks(const std::string& how) {
  const std::string command = "timeout -k 5 60 env " ESPALIER_MPIRUN " 2 " ESPALIER_MPI_FAILURE
                              " " +
                              how + " " + dump_directory() + " 2>&1";
  const auto start = std::chrono::steady_clock::now();
  Outcome outcome;
  FILE* const pipe = popen(command.c_str(), "r");
  std::array<char, 4096> buffer{};
  while (const size_t bytes = fread(buffer.data(), 1, buffer.size(), pipe)) {
    outcome.output.append(buffer.data(), bytes);
  }
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  outcome.seconds = elapsed.count();
  return outcome;
}

bool has(const Outcome& outcome, const std::string& text) {
  return outcome.output.find(text) != std::string::npos;
}

TEST(MpiFailure, KilledRankEndsTheJob) {
  const Outcome outcome = run_two_ranks("killed");
  EXPECT_EQ(outcome.exit_code, 137) << outcome.output;  // as mpirun reports SIGKILL
  EXPECT_LT(outcome.seconds, 30);
}

TEST(MpiFailure, StoppedRankIsATimeoutThatNamesTheOperation) {
  const Outcome outcome = run_two_ranks("stopped");
  EXPECT_EQ(outcome.exit_code, 70) << outcome.output;
  EXPECT_TRUE(has(outcome, "rank 0: all_reduce(Float[1000], sum) made no progress for 2 s"))
      << outcome.output;
  EXPECT_TRUE(has(outcome, "and stays dead")) << outcome.output;
  EXPECT_LT(outcome.seconds, 30);
}

TEST(MpiFailure, StoppedRankLeavesTheFlightRecorderOfThoseWhoWait) {
  const Outcome outcome = run_two_ranks("stopped");
  const std::string path = dump_directory() + "/collectives-rank-0.jsonl";
  EXPECT_TRUE(has(outcome, "nothing comes from rank 1")) << outcome.output;
  EXPECT_TRUE(has(outcome, "it is operation 11 of rank 0, whose latest ones are in " + path))
      << outcome.output;
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_NE(lines.front().find("\"issued\": 11, \"completed\": 10"), std::string::npos);
  EXPECT_NE(lines.back().find("\"sequence\": 11"), std::string::npos) << lines.back();
  EXPECT_NE(lines.back().find("\"state\": \"started\""), std::string::npos) << lines.back();
  std::filesystem::remove_all(dump_directory());
}

TEST(MpiFailure, AbortFromAnotherThreadEndsTheWait) {
  const Outcome outcome = run_two_ranks("aborts");
  EXPECT_EQ(outcome.exit_code, 70) << outcome.output;
  EXPECT_TRUE(has(outcome, "rank 1 was reported dead")) << outcome.output;
  EXPECT_FALSE(has(outcome, "made no progress")) << outcome.output;
}

TEST(MpiFailure, RankThatLeavesByAnExceptionEndsTheJobBeforeAnyDeadline) {
  const Outcome outcome = run_two_ranks("throws");
  EXPECT_EQ(outcome.exit_code, 70) << outcome.output;
  EXPECT_TRUE(has(outcome, "something else went wrong")) << outcome.output;
  EXPECT_FALSE(has(outcome, "made no progress")) << outcome.output;
  EXPECT_LT(outcome.seconds, 30);
}

}  // namespace
}  // namespace espalier
