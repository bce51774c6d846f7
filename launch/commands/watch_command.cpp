#include <sys/ioctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "launch/commands/commands.h"
#include "launch/protocol/failure_class.h"
#include "launch/status/coordinator_client.h"
#include "launch/status/file_tail.h"
#include "launch/status/terminal_page.h"
#include "launch/worker/logging.h"
#include "trainer/errors.h"
#include "trainer/record/run_state.h"

namespace espalier {
namespace {

using nlohmann::json;

volatile std::sig_atomic_t is_asked_to_end = 0;

// The screen that was there before comes back, with the last page below it.
class Screen {
 public:
  Screen() : is_terminal_(::isatty(STDOUT_FILENO) == 1) {
    struct sigaction action = {};
    action.sa_handler = [](int) { is_asked_to_end = 1; };
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
    with_colors_ = is_terminal_ && !is_colour_unwanted();
    if (is_terminal_) std::fputs("\033[?1049h\033[?25l", stdout);  // a screen of its own, no cursor
  }
  ~Screen() {
    if (!is_terminal_) return;
    std::fputs("\033[?25h\033[?1049l", stdout);
    print(last_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  void show(const TerminalView& view) {
    int columns = 100, rows = 40;
    winsize size{};
    if (is_terminal_ && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
      columns = size.ws_col;
      rows = size.ws_row;
    }
    last_ = terminal_page(view, columns, rows - 1, with_colors_);
    if (is_terminal_) std::fputs("\033[H\033[2J", stdout);
    print(last_);
  }

 private:
  static void print(const std::vector<std::string>& lines) {
    for (const auto& line : lines) std::printf("%s\n", line.c_str());
    std::fflush(stdout);
  }

  bool is_terminal_, with_colors_;
  std::vector<std::string> last_;
};

bool is_over(const std::string& run) {
  const std::string state = read_run_state(run).value("state", std::string());
  return (state == "finished" || state == "stopped") &&
         !std::filesystem::exists(run + "/coordinator.json");
}

// Runs of `espalier train` have no coordinator: their files say how far they are.
void look(const std::string& run, const std::string& token, TerminalView& view,
          std::string& answered) {
  try {
    view.status = json::parse(fetch_status(run, token));
    view.note.clear();
    answered = clock_text(static_cast<double>(std::time(nullptr)));
  } catch (const ConfigError& error) {
    view.note = answered.empty() ? "no coordinator; this is what its files say"
                                 : "no answer since " + answered + ": " + error.what();
    const json files = read_run_state(run);
    if (answered.empty() || !std::filesystem::exists(run + "/coordinator.json")) {
      if (files.contains("state")) view.status["state"] = files.at("state");
      view.status["run"] = run;
      for (const char* field : {"generation", "world_size"}) {
        if (files.contains(field)) view.status[field] = files.at(field);
      }
      view.status["ranks"] = json::array();
    }
  }
}

}  // namespace

int run_watch(const std::string& run, double period_s, const std::string& token) {
  if (read_run_state(run).empty() && !std::filesystem::exists(run + "/coordinator.json")) {
    throw ConfigError(run + " is no run directory, or nothing has started in it yet");
  }
  MetricsHistory metrics;
  FileTail tail(run + "/metrics.jsonl");
  TerminalView view{json::object(), "", &metrics};
  std::string answered;
  Screen screen;
  while (is_asked_to_end == 0) {
    const bool ends = is_over(run);
    look(run, token, view, answered);
    if (ends) view.note.clear();  // nobody is missed
    for (const auto& line : tail.lines()) metrics.add(line);
    screen.show(view);
    if (ends) break;
    ::usleep(static_cast<useconds_t>(period_s * 1e6));  // a signal ends it
  }
  return kExitDone;
}

}  // namespace espalier
