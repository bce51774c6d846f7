#include "trainer/record/run_directory.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "toy_room.h"
#include "trainer/errors.h"
#include "trainer/host/host_name.h"

namespace espalier {
namespace {

std::string refusal(const std::string& path, int generation) {
  try {
    const RunDirectory directory(path, generation);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "taken";
}

void expect_in(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
}

TEST(RunDirectory, SaysInItsLockFileWhoHoldsIt) {
  const std::string path = fresh_directory("run");
  const RunDirectory directory(path, 3);
  std::ifstream file(path + "/train.lock");
  const auto holder = nlohmann::json::parse(file);
  EXPECT_EQ(holder.at("pid"), ::getpid());
  EXPECT_EQ(holder.at("host"), host_name());
  EXPECT_EQ(holder.at("generation"), 3);
}

TEST(RunDirectory, HeldByAnyoneButAnOlderGenerationIsRefusedWithHostAndProcess) {
  for (const int held_by : {0, 3}) {
    const std::string path = fresh_directory("run");
    const RunDirectory directory(path, held_by);
    for (const int asked_by : held_by == 0 ? std::vector{0, 1, 4} : std::vector{0, 2, 3}) {
      const std::string text = refusal(path, asked_by);
      expect_in(text, "in use by another training (process " + std::to_string(::getpid()) + " on " +
                          host_name());
    }
    EXPECT_TRUE(directory.is_ours());
  }
}

TEST(RunDirectory, IsTakenFromAnOlderGenerationThatWasCutOff) {
  const std::string path = fresh_directory("run");
  const RunDirectory cut_off(path, 1);
  auto newer = std::make_unique<RunDirectory>(path, 2);
  EXPECT_FALSE(cut_off.is_ours());
  EXPECT_TRUE(newer->is_ours());
  expect_in(refusal(path, 2), "generation 2");
  expect_in(refusal(path, 0), "generation 2");
  newer.reset();
  EXPECT_EQ(refusal(path, 0), "taken") << "the one that was cut off holds nothing any more";
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
  }
}

TEST(RunDirectory, LockFileOfAnEarlierProgramIsReadAsOfNoGeneration) {
  const std::string path = fresh_directory("run");
  const RunDirectory directory(path, 1);
  std::ofstream(path + "/train.lock") << "process 17 on somewhere";
  expect_in(refusal(path, 2), "an unknown process");
}

}  // namespace
}  // namespace espalier
