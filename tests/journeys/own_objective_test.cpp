// The worked example of docs/own-objective.md, with the page's own config.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "comm/transport/thread_communicator.h"
#include "data/images/image_codec.h"
#include "data/test_files.h"
#include "journeys/pages.h"
#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/evaluation/section.h"
#include "trainer/registry.h"
#include "trainer/run.h"

namespace espalier {

void add_rating(Registry& registry);  // docs/examples/rating.cpp

namespace {

using nlohmann::json;

class OwnObjective : public testing::Test {
 protected:
  static void SetUpTestSuite() { add_rating(registry()); }

  // Plain pictures; the number that comes with them is how bright they are.
  void write_pictures(const std::string& split, int count) const {
    std::filesystem::create_directories(folder_.file("pictures/" + split));
    for (int i = 0; i < count; ++i) {
      const auto level = static_cast<uint8_t>(255 * i / (count - 1));
      const std::string stem = folder_.file("pictures/" + split + "/" + std::to_string(i));
      write_png(stem + ".png", Image{32, 32, std::vector<uint8_t>(32 * 32 * 3, level)});
      std::ofstream(stem + ".json") << json{{"rating", static_cast<double>(level) / 255}};
    }
  }

  RunConfig config() const {
    std::string text = blocks_of_page("docs/own-objective.md", "toml").front();
    for (size_t at; (at = text.find("\"pictures/")) != std::string::npos;) {
      text.replace(at, 1, "\"" + folder_.file(""));
    }
    const std::string path = folder_.file("rating.toml");
    std::ofstream(path) << text;
    return load_run_config(
        path, {"run.directory=\"" + folder_.file("run") + "\"", "model.tokenizer.width=16",
               "model.tokenizer.codebook_size=32", "stage.codes.steps=40",
               "stage.codes.batch_size=16", "stage.codes.micro_batch_size=4",
               "checkpoint.every_steps=20", "stage.codes.optimizer.learning_rate=0.003"});
  }

  void train(int ranks) const {
    const RunConfig run = config();
    run_ranks(ranks, [&](Communicator& comm) {
      RunObserver nobody;
      EXPECT_EQ(run_training(run, comm, nobody), RunOutcome::kFinished);
    });
  }

  Metric squared_error() const {
    const json evaluation = json::parse(read_file(folder_.file("run/evaluation/codes.json")));
    for (const Section& section : sections_from_json(evaluation.at("sections"))) {
      if (section.name == "rating") return section.metrics.at(0);
    }
    throw std::runtime_error("the evaluation has no section of the rating");
  }

  TemporaryFolder folder_;
};

TEST_F(OwnObjective, LearnsFromThePagesConfigAndShowsInTheEvaluation) {
  write_pictures("train", 48);
  write_pictures("test", 9);
  train(1);
  const Metric error = squared_error();
  ASSERT_EQ(error.baselines.size(), 1u);
  EXPECT_LT(error.value, 0.5 * error.baselines[0].value);
}

TEST_F(OwnObjective, LearnsTheSameOnTwoRanks) {
  write_pictures("train", 48);
  write_pictures("test", 9);
  train(1);
  const double alone = squared_error().value;
  std::filesystem::remove_all(folder_.file("run"));
  train(2);
  EXPECT_NEAR(squared_error().value, alone, 1e-3);
}

TEST_F(OwnObjective, RefusesSamplesWithoutItsField) {
  write_pictures("train", 4);
  write_pictures("test", 4);
  std::ofstream(folder_.file("pictures/train/2.json")) << json{{"caption", "no number"}};
  EXPECT_THROW(
      try { train(1); } catch (const std::exception& error) {
        EXPECT_NE(std::string(error.what()).find("field \"rating\" is missing"), std::string::npos)
            << error.what();
        throw;
      },
      std::exception);
}

TEST(OwnObjectivePage, SaysHowLongTheExampleIs) {
  const std::string example = read_file(source_path("docs/examples/rating.cpp"));
  const auto lines = std::count(example.begin(), example.end(), '\n');
  EXPECT_NE(read_file(source_path("docs/own-objective.md"))
                .find("[" + std::to_string(lines) + " lines](examples/rating.cpp)"),
            std::string::npos)
      << lines;
}

}  // namespace
}  // namespace espalier
