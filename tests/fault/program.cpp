#include "fault/program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

#include <nlohmann/json.hpp>

#include "launch/status/coordinator_client.h"

namespace espalier {
namespace fs = std::filesystem;
using nlohmann::json;

Program::Program(std::vector<std::string> arguments, fs::path output) : output_(std::move(output)) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, output_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  std::vector<char*> pointers;
  for (auto& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const int error =
      ::posix_spawnp(&pid_, pointers[0], &files, &attributes, pointers.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw std::runtime_error(arguments[0] + ": " + std::strerror(error));
}

Program::~Program() {
  if (!is_running()) return;
  // Twice: a coordinator then ends its ranks at once instead of leaving them behind.
  for (int i = 0; i < 2; ++i) {
    ::kill(pid_, SIGTERM);
    if (wait(i == 0 ? 0.5 : 15) >= 0) return;
  }
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Program::signal(int number) const { ::kill(pid_, number); }

bool Program::is_running() {
  if (ended_) return false;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return true;
  ended_ = true;
  exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return false;
}

int Program::wait(double seconds) {
  eventually(seconds, [this] { return !is_running(); });
  return exit_code_;
}

std::string Program::output() const { return read_text(output_); }

bool eventually(double seconds, const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return condition();
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int64_t trained_steps(const fs::path& run) {
  std::ifstream file(run / "metrics.jsonl");
  int64_t step = -1;
  for (std::string line; std::getline(file, line);) {
    const json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (entry.is_object()) step = std::max(step, entry.value("global_step", int64_t{-1}));
  }
  return step;
}

static fs::path newest_checkpoint_path(const fs::path& run) {
  fs::path newest;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", none)) {
    const std::string name = entry.path().filename().string();
    if (name.size() == std::strlen("step-0000000800") && name.starts_with("step-") &&
        fs::exists(entry.path() / "manifest.json")) {
      newest = std::max(newest, entry.path());
    }
  }
  return newest;
}

int64_t newest_checkpoint(const fs::path& run) {
  const std::string name = newest_checkpoint_path(run).filename().string();
  return name.empty() ? -1 : std::stoll(name.substr(std::strlen("step-")));
}

std::string final_weights(const fs::path& run) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(newest_checkpoint_path(run))) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::string bytes = newest_checkpoint_path(run).filename().string() + "\n";
  for (const auto& file : files) bytes += file.filename().string() + "\n" + read_text(file);
  return bytes;
}

static json status_of(const fs::path& run) {
  try {
    return json::parse(fetch_status(run.string()));
  } catch (const std::exception&) {
    return json::object();
  }
}

int pid_of_rank(const fs::path& run, int rank) {
  const json status = status_of(run);
  for (const auto& view : status.value("ranks", json::array())) {
    if (view.value("rank", -1) == rank && view.value("joined", false)) return view.value("pid", 0);
  }
  return 0;
}

int generation_of(const fs::path& run) { return status_of(run).value("generation", 0); }

}  // namespace espalier
