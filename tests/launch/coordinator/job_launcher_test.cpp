#include "launch/coordinator/job_launcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace espalier {
namespace {

namespace fs = std::filesystem;

class SpawnedLauncher : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("launcher-" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // What a shell command says that is started as a launcher is.
  std::string said(const std::string& command) {
    LaunchRequest request;
    request.launcher = LauncherKind::kLocal;
    request.program = "/bin/sh";
    request.arguments = {"-c", command};
    request.shared_memory_directory = (folder_ / "shared").string();
    request.log_path = (folder_ / "log").string();
    ::waitpid(spawn_launcher(request, this_machine()), nullptr, 0);
    std::ostringstream text;
    text << std::ifstream(request.log_path).rdbuf();
    return text.str();
  }

  fs::path folder_;
};

TEST_F(SpawnedLauncher, InheritsNoOpenFile) {
  const int fd = ::open("/dev/null", O_RDONLY);  // on purpose without close-on-exec
  ASSERT_GE(fd, 3);
  const std::string open_files = said("echo /proc/self/fd/*");
  ::close(fd);
  EXPECT_EQ(open_files.find("/" + std::to_string(fd) + " "), std::string::npos) << open_files;
}

TEST_F(SpawnedLauncher, FindsNothingOfAnEarlierLaunchInItsSharedMemory) {
  fs::create_directory(folder_ / "shared");
  std::ofstream(folder_ / "shared/vader_segment.left") << "bytes";
  EXPECT_EQ(said("ls " + (folder_ / "shared").string()), "");
  EXPECT_TRUE(fs::is_directory(folder_ / "shared"));
}

TEST(SharedMemoryDirectory, IsOneForEachRun) {
  EXPECT_NE(shared_memory_directory("/runs/a"), shared_memory_directory("/runs/b"));
  EXPECT_EQ(shared_memory_directory("/runs/a"), shared_memory_directory("/runs/a"));
}

TEST(ProcessStartTime, TellsALivingProcessFromARecycledPid) {
  const uint64_t start = process_start_time(::getpid());
  EXPECT_GT(start, 0u);
  EXPECT_TRUE(is_alive(::getpid(), start));
  EXPECT_FALSE(is_alive(::getpid(), start + 1));
  EXPECT_FALSE(is_alive(0, 0));
}

}  // namespace
}  // namespace espalier
