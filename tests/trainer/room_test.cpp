// What a room gets for its one line in the registry: the tests' own room, from config to report.
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "launch/report/report_page.h"
#include "toy_room.h"
#include "trainer/config/config_text.h"

namespace espalier {
namespace {

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Room, TrainsResumesAndReportsByOneLineInTheRegistry) {
  const RunConfig config = toy_config(fresh_directory("run"), 6);
  train_toy(config, 2, 4);
  train_toy(config, 2);  // goes on

  const std::string page = text_of(write_report(config.directory));
  for (const char* part : {"Toy regression", "norm of the trunk", "nothing", "Two pixels by two.",
                           "data:image/png;base64,"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  const auto report = nlohmann::json::parse(text_of(config.directory + "/report.json"));
  const auto& section = report.at("stages").at("second").at("sections").at("right");
  EXPECT_GT(section.at("metrics").at("trunk_norm").at("value").get<double>(), 0.0);
  EXPECT_EQ(section.at("metrics").at("trunk_norm").at("baselines").at("nothing"), 0.0);
  EXPECT_EQ(section.at("pictures").size(), 1U);
  EXPECT_NE(text_of(config.directory + "/config.toml").find("toy_regression"), std::string::npos);
}

TEST(Room, IsExplainedAndDocumented) {
  EXPECT_NE(explain_config("stage.first.objectives.left.weight").find("Weight of the loss."),
            std::string::npos);
  EXPECT_NE(config_reference().find("of kind `toy`\n\nA trunk and two branches."),
            std::string::npos);
}

}  // namespace
}  // namespace espalier
