#include "launch/coordinator/coordinator_files.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "trainer/checkpoint/durable_file.h"
#include "trainer/errors.h"
#include "trainer/record/append_file.h"
#include "trainer/record/json_field.h"
#include "trainer/record/json_text.h"

namespace espalier {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr uintmax_t kMaxErrorFileBytes = 1 << 16;

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw ConfigError(path + ": " + reason);
}

std::string generation_text(uint32_t generation) {
  char text[32];
  std::snprintf(text, sizeof(text), "generation-%04u", generation);
  return text;
}

}  // namespace

FileLock::FileLock(const std::string& path, const std::string& held_message) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd_ < 0) refuse(path, std::strerror(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd_);
    throw ConfigError(held_message);
  }
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

CoordinatorFiles::CoordinatorFiles(std::string run_directory)
    : run(fs::absolute(run_directory).lexically_normal().string()) {
  while (run.size() > 1 && run.back() == '/') run.pop_back();
  std::error_code error;
  fs::create_directories(run, error);
  if (error) {
    throw ConfigError("run directory " + run + " cannot be written: " + error.message() +
                      "; choose another with --set run.directory=…");
  }
}

std::string CoordinatorFiles::logs(uint32_t generation) const {
  return run + "/logs/" + generation_text(generation);
}

std::string CoordinatorFiles::scratch(uint32_t generation) const {
  return run + "/tmp/" + generation_text(generation);
}

FileLock CoordinatorFiles::lock() const {
  return FileLock(run + "/coordinator.lock", "another coordinator already runs " + run +
                                                 "; see `espalier status " + run +
                                                 "`, or stop it with `espalier stop " + run + "`");
}

void CoordinatorFiles::write_address(const CoordinatorAddress& where) const {
  replace_durably(address(), where.text());
}

void CoordinatorFiles::remove_address() const {
  std::error_code ignored;
  fs::remove(address(), ignored);
}

void CoordinatorFiles::append_event(const json& event) const {
  AppendFile file(run + "/events.jsonl");  // a full disk takes none of it, or all
  if (!file.append_line(json_text(event))) spdlog::warn("{}", file.error());
}

std::vector<RankErrorFile> CoordinatorFiles::read_errors(uint32_t generation) const {
  std::vector<RankErrorFile> errors;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run + "/errors", none)) {
    if (entry.path().extension() != ".json" || !entry.is_regular_file() ||
        entry.file_size() > kMaxErrorFileBytes) {
      continue;
    }
    std::ifstream file(entry.path());
    const json error = json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (!error.is_object() || error.value("generation", 0u) != generation) continue;
    RankErrorFile& found = errors.emplace_back();
    read_field(error, "rank", &found.rank);
    read_field(error, "what", &found.what);
    std::string name;
    read_field(error, "class", &name);
    found.failure_class = parse_failure_class(name).value_or(FailureClass::kInternal);
  }
  return errors;
}

void write_rank_error(const std::string& run_directory, uint32_t generation,
                      const RankErrorFile& error) {
  fs::create_directories(run_directory + "/errors");
  const json text = {{"rank", error.rank}, {"generation", generation},
                     {"what", error.what}, {"class", name_of(error.failure_class)},
                     {"pid", ::getpid()},  {"time", unix_time_s()}};
  replace_durably(run_directory + "/errors/rank-" + std::to_string(error.rank) + ".json",
                  json_text(text, 2) + "\n");
}

double unix_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace espalier
