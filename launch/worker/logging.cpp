#include "launch/worker/logging.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>

#include <spdlog/cfg/env.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "trainer/errors.h"

namespace espalier {
namespace {

class ProgressSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit ProgressSink(Progress* progress) : progress_(progress) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    std::string text(line.data(), line.size());
    while (!text.empty() && text.back() == '\n') text.pop_back();
    progress_->say(text);
  }
  void flush_() override {}

  Progress* progress_;
};

spdlog::sink_ptr terminal_sink() {
  return std::make_shared<spdlog::sinks::stderr_color_sink_mt>(
      is_colour_unwanted() ? spdlog::color_mode::never : spdlog::color_mode::automatic);
}

void install(spdlog::sink_ptr sink, const std::string& pattern) {
  auto logger = std::make_shared<spdlog::logger>("espalier", std::move(sink));
  logger->set_pattern(pattern);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  spdlog::cfg::load_env_levels();
}

}  // namespace

bool is_colour_unwanted() {
  const char* const no_color = std::getenv("NO_COLOR");
  return no_color != nullptr && *no_color != '\0';
}

void log_for_worker(const RankPlace& place, Progress* progress) {
  std::string who;
  if (place.world_size > 1) who = " rank " + std::to_string(place.rank);
  if (place.generation > 0) who += " generation " + std::to_string(place.generation);
  spdlog::sink_ptr sink;
  if (progress != nullptr) {
    sink = std::make_shared<ProgressSink>(progress);
  } else {
    sink = terminal_sink();
  }
  install(std::move(sink), "%H:%M:%S" + who + " %^%l%$: %v");
}

void log_to_file(const std::string& path) {
  install(std::make_shared<spdlog::sinks::basic_file_sink_mt>(path), "%Y-%m-%d %H:%M:%S %l: %v");
}

void log_plainly() { install(terminal_sink(), "%^%l%$: %v"); }

void set_log_level(const std::string& level) {
  ::setenv("SPDLOG_LEVEL", level.c_str(), /*overwrite=*/1);
  spdlog::cfg::load_env_levels();
}

void redirect_output(const std::string& directory, int rank) {
  std::error_code ignored;  // made here too: another host may not see the coordinator's disk
  std::filesystem::create_directories(directory, ignored);
  const std::string path = directory + "/rank-" + std::to_string(rank) + ".log";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (fd < 0) throw ConfigError("log file " + path + ": " + std::strerror(errno));
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  ::close(fd);
}

}  // namespace espalier
