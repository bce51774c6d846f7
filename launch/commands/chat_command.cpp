#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "data/errors.h"
#include "data/images/image_codec.h"
#include "launch/commands/commands.h"
#include "launch/commands/drawing_files.h"
#include "launch/protocol/failure_class.h"
#include "trainer/conversation.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

constexpr const char* kHelp =
    "/image FILE   show a picture: questions are about it, and about those before it\n"
    "/caption      name what it shows\n"
    "/draw TEXT    draw to a file\n"
    "/new          forget what was shown and said\n"
    "/quit         leave (or Ctrl-D)\n"
    "anything else is a question about the picture";

class Chat {
 public:
  Chat(const InferenceRun& run, const ChatArguments& arguments)
      : conversation_(run), arguments_(arguments) {}

  // False: the user leaves.
  bool answer(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (word == "/quit") return false;
    if (word == "/help") {
      say(kHelp);
    } else if (word == "/image") {
      conversation_.show(read_image_file(rest));
      say("shown: " + rest);
    } else if (word == "/new") {
      conversation_.forget();
      say("forgotten");
    } else if (word == "/caption") {
      say(conversation_.caption());
    } else if (word == "/draw") {
      const Image drawn = conversation_.draw(rest, arguments_.seed + drawn_++);
      say(write_drawing(arguments_.out, rest, "", drawn, arguments_.zoom));
    } else if (word.starts_with('/')) {
      throw ConfigError("there is no " + word + "; /help says what there is");
    } else {
      say(conversation_.ask(line));
    }
    return true;
  }

 private:
  static void say(const std::string& text) {
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  }

  Conversation conversation_;
  const ChatArguments& arguments_;
  uint64_t drawn_ = 0;
};

}  // namespace

// From a terminal a mistake is said and the conversation goes on; from a pipe it ends it.
int run_chat(const ChatArguments& arguments) {
  const InferenceRun run =
      load_for_inference({.run = arguments.run,
                          .checkpoint = {arguments.checkpoint.step, arguments.checkpoint.is_best},
                          .sets = arguments.sets});
  make_drawing_folder(arguments.out);
  const bool is_terminal = ::isatty(STDIN_FILENO) != 0;
  std::fprintf(stderr, "using %s\n", run.checkpoint.path.c_str());
  if (is_terminal) std::fprintf(stderr, "%s\n", kHelp);
  Chat chat(run, arguments);
  for (std::string line;;) {
    if (is_terminal) std::fprintf(stderr, "> ");
    if (!std::getline(std::cin, line)) break;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      if (!chat.answer(line)) break;
    } catch (const ConfigError& error) {
      if (!is_terminal) throw;
      std::fprintf(stderr, "%s\n", error.what());
    } catch (const DataError& error) {
      if (!is_terminal) throw;
      std::fprintf(stderr, "%s\n", error.what());
    }
  }
  return kExitDone;
}

}  // namespace espalier
