#include "launch/slurm/slurm_job.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "launch/slurm/program_output.h"
#include "launch/slurm/requeue.h"

namespace espalier {
namespace {

using namespace std::chrono_literals;

std::string id(const std::map<std::string, std::string>& variables) {
  return slurm_job_id([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

// As Slurm 22.05 says it with SLURM_TIME_FORMAT=%s, shortened.
constexpr std::string_view kShown =
    "JobId=12 JobName=train.sbatch UserId=root(0) JobState=RUNNING Reason=None Dependency=(null) "
    "Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:05 TimeLimit=00:02:00 "
    "StartTime=1795905000 EndTime=1795905120 Command=/x/train.sbatch a=b.toml\n";

TEST(SlurmJobId, NamesTheTaskOfAnArrayAndNotTheWholeArray) {
  EXPECT_EQ(id({}), "");
  EXPECT_EQ(id({{"SLURM_JOB_ID", "12"}}), "12");
  EXPECT_EQ(
      id({{"SLURM_JOB_ID", "14"}, {"SLURM_ARRAY_JOB_ID", "12"}, {"SLURM_ARRAY_TASK_ID", "3"}}),
      "12_3");
}

TEST(SlurmJob, IsReadFromWhatScontrolShows) {
  const auto job = parse_slurm_job(kShown);
  ASSERT_TRUE(job);
  EXPECT_EQ(job->state, "RUNNING");
  EXPECT_TRUE(job->is_batch);
  EXPECT_TRUE(job->may_requeue);
  EXPECT_EQ(job->restarts, 2);
  EXPECT_EQ(job->end, 1795905120);
}

TEST(SlurmJob, HasNoEndWithoutALimit) {
  EXPECT_EQ(parse_slurm_job("JobId=1 JobState=RUNNING EndTime=Unknown")->end, std::nullopt);
}

TEST(SlurmJob, IsNothingWhenSlurmDoesNotAnswer) {
  EXPECT_FALSE(parse_slurm_job(""));
  EXPECT_FALSE(parse_slurm_job("slurm_load_jobs error: Unable to contact slurm controller"));
}

TEST(ProgramOutput, IsAllThatAProgramSays) {
  EXPECT_EQ(program_output({"sh", "-c", "echo out; echo err >&2"}, 10s), "out\nerr\n");
  EXPECT_EQ(program_output({"no-such-program-anywhere"}, 10s), "");
}

TEST(ProgramOutput, DoesNotWaitForAProgramThatHangs) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(program_output({"sh", "-c", "echo before; exec sleep 60"}, 300ms), "before\n");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 30s);
}

RequeueDecision decide(const std::optional<SlurmJob>& job, int64_t fruitless = 0,
                       RequeueWish wish = RequeueWish::kAuto) {
  return decide_requeue(wish, "12", job, fruitless, 3);
}
SlurmJob running() { return *parse_slurm_job(kShown); }

TEST(Requeue, IsForABatchJobThatWasSubmittedForIt) {
  EXPECT_TRUE(decide(running()).requeue);
  SlurmJob job = running();
  job.may_requeue = false;
  EXPECT_FALSE(decide(job).requeue);
  EXPECT_NE(decide(job).why.find("--requeue"), std::string::npos);
  EXPECT_TRUE(decide(job, 0, RequeueWish::kAlways).requeue);
  job = running();
  job.is_batch = false;
  EXPECT_FALSE(decide(job).requeue);
}

TEST(Requeue, DoesNotBringBackAJobThatWasCancelled) {
  SlurmJob job = running();
  job.state = "CANCELLED";
  EXPECT_FALSE(decide(job).requeue);
  job.state = "COMPLETING";
  EXPECT_FALSE(decide(job).requeue);
}

TEST(Requeue, BringsBackAJobThatSlurmEndsForItsTimeLimit) {
  SlurmJob job = running();
  job.state = "COMPLETING";
  job.reason = "TimeLimit";
  EXPECT_TRUE(decide(job).requeue);
}

TEST(Requeue, EndsWhenStartAfterStartLeavesNoCheckpoint) {
  EXPECT_TRUE(decide(running(), 2).requeue);
  EXPECT_FALSE(decide(running(), 3).requeue);
  EXPECT_TRUE(decide(running(), 3).is_hopeless);
}

TEST(Requeue, SaysSoWhereScontrolIsMissing) {
  EXPECT_FALSE(decide(std::nullopt).requeue);
  EXPECT_NE(decide(std::nullopt).why.find("scontrol is missing"), std::string::npos);
}

}  // namespace
}  // namespace espalier
