#include "launch/worker/logging.h"

#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

namespace espalier {
namespace {

// What a process says whose terminal this is.
std::string said_on_a_terminal(const char* no_color) {
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    ::setenv("TERM", "xterm", 1);
    if (no_color == nullptr) {
      ::unsetenv("NO_COLOR");
    } else {
      ::setenv("NO_COLOR", no_color, 1);
    }
    log_plainly();
    spdlog::warn("mind the gap");
    ::_exit(0);
  }
  std::string text;
  char piece[256];
  for (ssize_t got = 0; (got = ::read(terminal, piece, sizeof(piece))) > 0;) {
    text.append(piece, static_cast<size_t>(got));
  }
  ::close(terminal);
  ::waitpid(child, nullptr, 0);
  return text;
}

TEST(Logging, IsColouredOnATerminalUnlessNoColorIsSetAndNotEmpty) {
  EXPECT_NE(said_on_a_terminal(nullptr).find("\x1b["), std::string::npos);
  EXPECT_NE(said_on_a_terminal("").find("\x1b["), std::string::npos);
  EXPECT_EQ(said_on_a_terminal("1"), "warning: mind the gap\r\n");
}

}  // namespace
}  // namespace espalier
