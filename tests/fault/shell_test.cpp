// What the program does for people at a shell: nearest names, completion, the manual page, how much
// is said.

#include "fault/command_test.h"

namespace espalier {
namespace {

class Shell : public CommandTest {
 protected:
  Result bash(const std::string& script) { return command({"bash", "-c", script}); }
  // What the completion offers for a line that ends in the word under the cursor.
  std::string completions(const std::vector<std::string>& words) {
    std::string line;
    for (const std::string& word : words) line += "'" + word + "' ";
    const Result result = bash(std::string("eval \"$('" ESPALIER_PROGRAM "' completion bash)\"; ") +
                               "COMP_WORDS=(" + line +
                               "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
                               "_espalier; printf '%s\\n' \"${COMPREPLY[@]}\"");
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return "\n" + result.output;
  }
  static void expect_offered(const std::string& offered, const std::string& word) {
    EXPECT_NE(offered.find("\n" + word + "\n"), std::string::npos) << word << " not in " << offered;
  }
  bool has(const std::string& program) {
    return command({"bash", "-c", "command -v " + program}).exit_code == 0;
  }
};

TEST_F(Shell, CommandThatDoesNotExistIsAnsweredWithTheNearest) {
  expect_refused(espalier({"lanuch", tiny()}), "did you mean launch?");
  expect_refused(espalier({"stat"}), "did you mean status?");
  expect_refused(espalier({"data", "inspcet"}), "did you mean inspect?");
  expect_refused(espalier({"train", tiny(), "--dryrun"}), "did you mean --dry-run?");
  const Result far = espalier({"xyzzyxyzzy"});
  EXPECT_EQ(far.exit_code, 64);
  EXPECT_EQ(far.output.find("did you mean"), std::string::npos) << far.output;
}

TEST_F(Shell, BashCompletesCommandsOptionsAndTheSettingsOfTheConfig) {
  const std::string commands = completions({ESPALIER_PROGRAM, "la"});
  expect_offered(commands, "launch");
  EXPECT_EQ(commands.find("train"), std::string::npos) << commands;
  expect_offered(completions({ESPALIER_PROGRAM, "launch", "x.toml", "--dry"}), "--dry-run");
  expect_offered(completions({ESPALIER_PROGRAM, "data", "ins"}), "inspect");
  const std::string keys =
      completions({ESPALIER_PROGRAM, "launch", tiny(), "--set", "stage.both.objectives.g"});
  expect_offered(keys, "stage.both.objectives.group.share=");
  EXPECT_EQ(keys.find("stage.codes"), std::string::npos) << keys;
  expect_offered(completions({ESPALIER_PROGRAM, "train", "none.toml", "--set", "see"}), "seed=");
}

TEST_F(Shell, CompletionScriptsAreTakenByTheirShells) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const Result script = espalier({"completion", shell});
    ASSERT_EQ(script.exit_code, 0) << script.output;
    EXPECT_NE(script.output.find("launch"), std::string::npos);
    const std::string path = folder_.write(std::string("script.") + shell, script.output);
    if (!has(shell)) continue;  // bash always is; the others where they are installed
    EXPECT_EQ(command({shell, "-n", path}).exit_code, 0) << shell;
  }
  EXPECT_EQ(espalier({"completion", "csh"}).exit_code, 64);
}

TEST_F(Shell, ManualPageIsCompleteAndTakenByRoff) {
  const Result page = espalier({"man"});
  ASSERT_EQ(page.exit_code, 0);
  for (const char* part : {".TH ESPALIER 1", ".SH EXIT STATUS", ".SS launch", ".SS data inspect",
                           "NO_COLOR", "\\-\\-dry\\-run"}) {
    expect_said(page, part);
  }
  const std::string path = folder_.write("espalier.1", page.output);
  if (!has("groff")) return;
  const Result rendered = bash("groff -man -Tascii -ww -z '" + path + "'");
  EXPECT_EQ(rendered.exit_code, 0);
  EXPECT_EQ(rendered.output, "") << "warnings of groff";
}

TEST_F(Shell, VersionNamesTheCommitItWasBuiltFrom) {
  const Result version = espalier({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  const size_t at = version.output.find("(commit ");
  ASSERT_NE(at, std::string::npos) << version.output;
  const std::string commit = version.output.substr(at + 8, 12);
  const Result known = bash("cd '" ESPALIER_SOURCE_DIR "' && git rev-parse --git-dir");
  if (known.exit_code != 0) {
    EXPECT_TRUE(commit.starts_with("unknown")) << version.output;
    return;
  }
  EXPECT_EQ(
      bash("cd '" ESPALIER_SOURCE_DIR "' && git cat-file -e " + commit + "^{commit}").exit_code, 0)
      << version.output;
}

TEST_F(Shell, QuietSaysLessAndVerboseMore) {
  const std::vector<std::string> short_run = {"train", tiny(),
                                              "--set", "stage.codes.steps=1",
                                              "--set", "stage.both.steps=1",
                                              "--set", "log.tensorboard=false"};
  const auto said = [&](const std::string& flag) {
    std::vector<std::string> arguments = short_run;
    arguments.insert(arguments.end(), {"--set", "run.directory=" + run() + flag});
    if (!flag.empty()) arguments.push_back(flag);
    const Result result = espalier(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return result.output;
  };
  const std::string normal = said(""), quiet = said("-q");
  EXPECT_NE(normal.find("info: report: "), std::string::npos) << normal;
  EXPECT_EQ(quiet.find("info: "), std::string::npos) << quiet;
  EXPECT_EQ(normal.find("debug: "), std::string::npos) << normal;
  EXPECT_EQ(quiet.find("samples/s"), std::string::npos) << quiet;
  EXPECT_EQ(espalier({"-q", "-v", "doctor"}).exit_code, 64);
}

}  // namespace
}  // namespace espalier
