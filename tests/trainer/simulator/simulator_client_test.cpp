#include "trainer/simulator/simulator_client.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "trainer/errors.h"

namespace espalier {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

SimulatorOptions options_with(const std::string& fault) {
  SimulatorOptions options;
  options.script =
      std::string(ESPALIER_SOURCE_DIR) + "/tests/trainer/simulator/arithmetic_bridge.py";
  options.simulator = "sums";
  options.arguments = {"--fault", fault};
  return options;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const SimulatorError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no SimulatorError";
  return {};
}

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

bool is_running(int pid) { return kill(pid, 0) == 0; }

at::Tensor ones(int64_t environments) { return torch::ones({environments, 2}); }

// Asks one step of a bridge with `fault`; what it says, after which the bridge must be gone.
std::string step_failure(const std::string& fault, milliseconds timeout = milliseconds(20000)) {
  SimulatorOptions options = options_with(fault);
  options.answer_timeout = timeout;
  SimulatorClient client(options);
  client.reset("add", {1, 2});
  const std::string message = message_of([&] { client.step(ones(2)); });
  EXPECT_TRUE(client.is_broken());
  EXPECT_FALSE(is_running(client.pid()));
  // The client says so at once from then on.
  expect_parts(message_of([&] { client.reset("add", {1}); }), {"any more", message});
  return message;
}

TEST(SimulatorClient, ResetShowsEachEnvironmentAtItsStart) {
  SimulatorClient client(options_with("none"));

  const ResetAnswer reset = client.reset("add", {5, 70});

  EXPECT_EQ(reset.instructions, (std::vector<std::string>{"sum of 5", "sum of 70"}));
  EXPECT_EQ(reset.views, (std::vector<std::string>{"primary", "wrist"}));
  const Observation& seen = reset.observation;
  ASSERT_EQ(seen.images.sizes(), (at::IntArrayRef{2, 2, 2, 3, 3}));
  EXPECT_EQ(seen.images.scalar_type(), at::kByte);
  EXPECT_EQ(seen.images.index({0, 0, 0, 0, 0}).item<int>(), 5);
  EXPECT_EQ(seen.images.index({1, 1, 1, 2, 1}).item<int>(), 70 + 100 + 9 + 6 + 1);
  EXPECT_TRUE(torch::equal(seen.state, torch::tensor({{5.0F, 0.0F, 0.0F}, {70.0F, 0.0F, 0.0F}})));
}

TEST(SimulatorClient, StepsUntilEveryEnvironmentHasEnded) {
  SimulatorClient client(options_with("none"));
  client.reset("add", {5, 70});
  const at::Tensor actions = torch::tensor({{1.0, 9.0}, {0.25, 9.0}}, torch::kDouble);

  StepAnswer step = client.step(actions);
  EXPECT_EQ(step.ended, (std::vector<bool>{false, false}));
  EXPECT_TRUE(torch::equal(step.observation.state,
                           torch::tensor({{5.0F, 1.0F, 1.0F}, {70.0F, 1.0F, 0.25F}})));
  client.step(actions);
  step = client.step(actions);
  EXPECT_EQ(step.ended, (std::vector<bool>{true, true}));
  EXPECT_EQ(step.success, (std::vector<bool>{true, false}));
  EXPECT_EQ(step.observation.images.index({0, 0, 0, 0, 0}).item<int>(), 5 + 30);
  EXPECT_TRUE(torch::equal(client.step(actions).observation.state, step.observation.state));
}

TEST(SimulatorClient, RunsEpisodesOfTheExpertAndAtRandom) {
  SimulatorClient client(options_with("none"));
  const EpisodeAnswer expert = client.expert("add", {1, 2, 3});
  EXPECT_EQ(expert.success, (std::vector<bool>{true, true, true}));
  EXPECT_EQ(expert.steps, (std::vector<int64_t>{3, 3, 3}));
  EXPECT_EQ(client.random("add", {1, 2, 3}).success, (std::vector<bool>{false, true, false}));
  EXPECT_THROW(client.step(ones(3)), c10::Error);  // there are no environments to step
}

TEST(SimulatorClient, GoesOnAfterAQuestionThatWasRefused) {
  SimulatorClient client(options_with("none"));
  expect_parts(
      message_of([&] { client.reset("unknown", {1}); }),
      {"simulator sums", "to reset 1 environments of unknown", "there is no task unknown"});
  EXPECT_FALSE(client.is_broken());
  EXPECT_EQ(client.reset("add", {1}).instructions.size(), 1U);
}

TEST(SimulatorClient, RefusesActionsForAnotherNumberOfEnvironments) {
  SimulatorClient client(options_with("none"));
  EXPECT_THROW(client.step(ones(2)), c10::Error);
  client.reset("add", {1, 2});
  EXPECT_THROW(client.step(ones(3)), c10::Error);
  EXPECT_THROW(client.step(torch::ones({2})), c10::Error);
  EXPECT_NO_THROW(client.step(ones(2)));
}

TEST(SimulatorClient, HandsDownNoOpenFilesAndNoRank) {
  setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  const std::unique_ptr<FILE, int (*)(FILE*)> open_file(std::tmpfile(), std::fclose);
  SimulatorClient client(options_with("none"));
  unsetenv("OMPI_COMM_WORLD_RANK");
  EXPECT_EQ(client.packages().at("sums"), "1.0");
  // Its three streams, its socket and the folder that it lists.
  EXPECT_EQ(client.packages().at("open files"), "5");
  EXPECT_EQ(client.packages().at("rank"), "none");
  EXPECT_EQ(client.packages().at("group"), "True");
}

TEST(SimulatorClient, LeavesNeitherProcessNorFileBehind) {
  namespace fs = std::filesystem;
  const fs::path folder =
      fs::temp_directory_path() / ("espalier_simulator_test_" + std::to_string(getpid()));
  fs::create_directory(folder);
  const char* set = std::getenv("TMPDIR");
  const std::string before = set == nullptr ? "" : set;
  setenv("TMPDIR", folder.c_str(), 1);
  int pid = 0;
  {
    SimulatorClient client(options_with("none"));
    pid = client.pid();
    EXPECT_TRUE(fs::is_empty(folder));  // gone as soon as it has connected
    EXPECT_TRUE(is_running(pid));
  }
  SimulatorOptions missing = options_with("none");
  missing.python = "no-such-python";
  EXPECT_THROW(SimulatorClient client(missing), SimulatorError);
  EXPECT_FALSE(is_running(pid));
  EXPECT_TRUE(fs::is_empty(folder));
  before.empty() ? unsetenv("TMPDIR") : setenv("TMPDIR", before.c_str(), 1);
  fs::remove_all(folder);
}

TEST(SimulatorClient, FindsAShortPathWhenTheTemporaryFolderHasALongOne) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / std::string(120, 'x');
  fs::create_directory(folder);
  setenv("TMPDIR", folder.c_str(), 1);
  EXPECT_NO_THROW(SimulatorClient client(options_with("none")));
  unsetenv("TMPDIR");
  fs::remove_all(folder);
}

TEST(SimulatorClient, SaysHowABridgeDiedAndWhatItPrinted) {
  expect_parts(step_failure("dies"),
               {"simulator sums (python3 ", "was asked to step", "ended with exit status 3",
                "its last lines:\n  the simulator has lost its mind"});
  expect_parts(step_failure("is killed"), {"was ended by signal 9 (Killed)", "printed nothing"});
  expect_parts(step_failure("dies inside an answer"), {"ended with exit status 4"});
}

TEST(SimulatorClient, GivesUpOnASilentBridgeAfterItsDeadline) {
  const auto begin = steady_clock::now();
  expect_parts(step_failure("hangs", milliseconds(1500)),
               {"it said nothing for 1.5 s", "is still running and is ended now", "  thinking"});
  EXPECT_LT(steady_clock::now() - begin, milliseconds(15000));
}

TEST(SimulatorClient, EndsABridgeThatIgnoresSigterm) {
  step_failure("ignores signals", milliseconds(1000));
}

TEST(SimulatorClient, RefusesAnswersThatAreNone) {
  expect_parts(step_failure("absurd lengths"), {"a message of 4294967295 bytes of JSON"});
  expect_parts(step_failure("garbage"), {"the JSON of a message is no object"});
  expect_parts(step_failure("too few"), {"\"ended\"", "has 1 items; expected 2"});
}

TEST(SimulatorClient, RefusesObservationsOfAnotherSizeOrWithoutValue) {
  SimulatorClient wrong(options_with("wrong size"));
  expect_parts(message_of([&] { wrong.reset("add", {1}); }),
               {"the payload of its answer has 48 bytes", "4 x 2 pixels"});
  SimulatorClient nan(options_with("nan"));
  expect_parts(message_of([&] { nan.reset("add", {1}); }), {"state", "not finite"});
}

TEST(SimulatorClient, IsNotStoppedByABridgeThatPrintsMuch) {
  SimulatorClient client(options_with("prints much"));
  client.reset("add", {1});
  EXPECT_EQ(client.step(ones(1)).ended.size(), 1U);
}

TEST(SimulatorClient, SaysWhyABridgeDoesNotStart) {
  expect_parts(message_of([] { SimulatorClient client(options_with("does not start")); }),
               {"was asked to connect", "exit status 1", "ImportError: No module named sums"});
  SimulatorOptions options = options_with("none");
  options.script = "no-such-bridge.py";
  expect_parts(message_of([&] { SimulatorClient client(options); }),
               {"exit status 2", "no-such-bridge.py"});
  options.python = "no-such-python";
  expect_parts(message_of([&] { SimulatorClient client(options); }),
               {"cannot start no-such-python: No such file", "name the Python"});
  options = options_with("does not connect");
  options.start_timeout = milliseconds(700);
  expect_parts(message_of([&] { SimulatorClient client(options); }),
               {"to connect", "said nothing for 0.7 s"});
}

TEST(SimulatorClient, RefusesABridgeOfAnotherVersion) {
  expect_parts(message_of([] { SimulatorClient client(options_with("newer")); }),
               {"\"version\"", "is 2; expected 1 to 1"});
}

}  // namespace
}  // namespace espalier
