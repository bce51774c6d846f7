#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "launch/commands/commands.h"
#include "launch/coordinator/coordinator_files.h"
#include "launch/protocol/failure_class.h"
#include "launch/status/file_tail.h"
#include "trainer/errors.h"

namespace espalier {
namespace fs = std::filesystem;

namespace {

constexpr auto kFollowPeriod = std::chrono::milliseconds(300);

std::string newest_generation(const fs::path& logs) {
  std::string newest;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(logs, none)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("generation-")) newest = std::max(newest, name);
  }
  return newest;
}

std::vector<std::string> files_of(const fs::path& folder, int rank) {
  std::vector<std::string> paths;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    if (rank < 0 || name == "rank-" + std::to_string(rank) + ".log") {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

void print_tail(const std::string& path, int lines) {
  std::ifstream file(path);
  std::deque<std::string> tail;
  for (std::string line; std::getline(file, line);) {
    tail.push_back(line);
    if (tail.size() > static_cast<size_t>(lines)) tail.pop_front();
  }
  std::printf("==> %s <==\n", path.c_str());
  for (const auto& line : tail) std::printf("%s\n", line.c_str());
}

// New lines of files, each under the name of its file where that changes.
class Follower {
 public:
  explicit Follower(int rank) : rank_(rank) {}

  // Lines that are there already count as printed.
  void begin_at_end(const fs::path& folder) {
    for (const auto& path : files_of(folder, rank_)) {
      tails_.try_emplace(path, path, static_cast<int64_t>(fs::file_size(path)));
      last_ = path;
    }
  }

  void print_new(const fs::path& folder) {
    for (const auto& path : files_of(folder, rank_)) {
      const std::vector<std::string> lines = tails_.try_emplace(path, path).first->second.lines();
      if (lines.empty()) continue;
      if (path != last_) std::printf("==> %s <==\n", path.c_str());
      last_ = path;
      for (const auto& line : lines) std::printf("%s\n", line.c_str());
    }
    std::fflush(stdout);
  }

 private:
  int rank_;
  std::map<std::string, FileTail> tails_;
  std::string last_;
};

}  // namespace

int run_logs(const LogsArguments& arguments) {
  const fs::path logs = fs::path(arguments.run) / "logs";
  const bool is_newest = arguments.generation <= 0;
  const auto folder = [&] {
    if (is_newest) return newest_generation(logs);
    const auto generation = static_cast<uint32_t>(arguments.generation);
    return fs::path(CoordinatorFiles(arguments.run).logs(generation)).filename().string();
  };
  if (folder().empty() || !fs::exists(logs / folder())) {
    throw ConfigError(arguments.run + " has no logs" +
                      (is_newest ? "" : " of generation " + std::to_string(arguments.generation)) +
                      "; only runs of `espalier launch` keep them");
  }
  Follower follower(arguments.rank);
  follower.begin_at_end(logs / folder());
  for (const auto& path : files_of(logs / folder(), arguments.rank)) {
    print_tail(path, arguments.lines);
  }
  std::fflush(stdout);
  if (!arguments.follow) return kExitDone;
  // A relaunch writes into a folder of its own; with the coordinator the last line has come.
  for (bool is_over = false; !is_over;) {
    is_over = !fs::exists(arguments.run + "/coordinator.json");
    if (!is_over) std::this_thread::sleep_for(kFollowPeriod);
    follower.print_new(logs / folder());
  }
  return kExitDone;
}

}  // namespace espalier
