#include "launch/coordinator/journal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace espalier {
namespace {

class JournalFile : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "/journal-" + std::to_string(::getpid());
    std::filesystem::remove(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::string read() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string path_;
};

TEST_F(JournalFile, CountsStartsThatEndedWithoutANewCommit) {
  Journal journal(path_);
  journal.finished(75, "SIGUSR1", /*wants_requeue=*/true);
  journal.finished(75, "SIGUSR1", /*wants_requeue=*/true);
  EXPECT_EQ(read_journal(path_).starts_without_commit, 2);
  EXPECT_TRUE(read_journal(path_).wants_requeue);
  journal.committed(1, 40);
  journal.committed(1, 60);
  journal.finished(75, "espalier stop", /*wants_requeue=*/false);
  EXPECT_EQ(read_journal(path_).starts_without_commit, 0);
  EXPECT_FALSE(read_journal(path_).wants_requeue);
  journal.finished(75, "SIGUSR1", /*wants_requeue=*/true);
  EXPECT_EQ(read_journal(path_).starts_without_commit, 1);
}

TEST_F(JournalFile, ReplaysWhatWasAppended) {
  {
    Journal journal(path_);
    journal.launched(1, 100, 555, 2, "job");
    journal.committed(1, 40);
    journal.launcher_ended(1, 137);
    journal.launched(2, 200, 777, 2, "job");
  }
  const Journal again(path_);
  EXPECT_EQ(again.state().generation, 2u);
  EXPECT_EQ(again.state().launcher_pid, 200);
  EXPECT_EQ(again.state().launcher_start, 777u);
  EXPECT_EQ(again.state().last_commit, 40);
  EXPECT_EQ(again.state().job, "job");
}

TEST_F(JournalFile, ForgetsALastRecordThatWasTornAtAnyByte) {
  {
    Journal journal(path_);
    journal.launched(1, 100, 555, 2, "job");
  }
  const size_t whole = read().size();
  {
    Journal journal(path_);
    journal.committed(1, 40);
  }
  const std::string bytes = read();
  for (size_t cut = whole; cut < bytes.size(); ++cut) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes.substr(0, cut);
    {
      Journal journal(path_);
      EXPECT_EQ(journal.state().records, 1) << "cut at byte " << cut;
      EXPECT_EQ(journal.state().last_commit, -1);
      journal.committed(1, 50);
    }
    EXPECT_EQ(Journal(path_).state().last_commit, 50) << "cut at byte " << cut;
  }
}

TEST_F(JournalFile, CountsAGenerationThatMayHaveBeenLaunched) {
  {
    Journal journal(path_);
    journal.launched(1, 100, 555, 2, "job");
    journal.launcher_ended(1, 137);
    journal.launching(2);
  }
  EXPECT_EQ(Journal(path_).state().generation, 2u);
  EXPECT_EQ(Journal(path_).state().launcher_pid, 0);
}

TEST(JournalRecords, EndAtADamagedRecord) {
  const std::string good = encode_record({{"type", "committed"}, {"step", 1}});
  std::string bad = encode_record({{"type", "committed"}, {"step", 2}});
  bad.back() = static_cast<char>(bad.back() ^ 1);
  size_t good_bytes = 0;
  EXPECT_EQ(decode_records(good + bad + good, &good_bytes).size(), 1u);
  EXPECT_EQ(good_bytes, good.size());
}

TEST(JournalRecords, EndAtALengthThatNoRecordHas) {
  size_t good_bytes = 1;
  EXPECT_TRUE(decode_records(std::string(12, '\xff'), &good_bytes).empty());
  EXPECT_EQ(good_bytes, 0u);
}

TEST_F(JournalFile, LetsARankCommitAloneUnlessItNamesANewerGeneration) {
  Journal journal(path_);
  journal.launching(3);
  journal.launched(3, 100, 555, 2, "job");
  EXPECT_TRUE(is_newest_generation(path_, 3));
  EXPECT_FALSE(is_newest_generation(path_, 2));
  journal.launching(4);  // as soon as it is about to be launched
  EXPECT_FALSE(is_newest_generation(path_, 3));
}

TEST_F(JournalFile, LetsARankCommitAloneWhereThereIsNone) {
  EXPECT_TRUE(is_newest_generation(path_, 3));
}

TEST_F(JournalFile, LetsARankCommitAloneBehindAnEndThatWasTornForGood) {
  Journal(path_).launching(3);
  std::ofstream(path_, std::ios::app | std::ios::binary) << encode_record({{"x", 1}}).substr(0, 9);
  EXPECT_TRUE(is_newest_generation(path_, 3));
  EXPECT_FALSE(is_newest_generation(path_, 2));
}

TEST_F(JournalFile, ThatCannotBeReadLetsNoRankCommitAlone) {
  std::ofstream(path_) << "no record at all";
  EXPECT_FALSE(is_newest_generation(path_, 3));
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);  // reading it is an error
  EXPECT_FALSE(is_newest_generation(path_, 3));
}

}  // namespace
}  // namespace espalier
