// Objectives that learn from conversations with several pictures: "converse", and "draw" with
// condition = "messages".
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "data/images/image_codec.h"
#include "real_things.h"
#include "toy_room.h"
#include "trainer/conversation.h"
#include "trainer/errors.h"
#include "trainer/objectives/draw/draw.h"
#include "trainer/objectives/reading.h"
#include "trainer/stage.h"

namespace espalier {
namespace {

constexpr int64_t kTalks = 12;

// Conversations: two pictures, a question, a picture for an answer, a question about it.
std::string write_talk(const std::string& directory, int64_t count) {
  std::filesystem::create_directories(directory);
  const Dataset emoji({ESPALIER_SOURCE_DIR "/data/emoji/emoji-32-test.tar"});
  const std::string path = directory + "/talk.jsonl";
  std::ofstream lines(path);
  for (int64_t i = 0; i < count; ++i) {
    std::string names;
    for (int64_t k = 0; k < 3; ++k) {
      const std::string name = std::to_string(3 * i + k) + ".png";
      write_png(directory + "/" + name, emoji.get((3 * i + k) % emoji.size()).image);
      names += std::string(k == 0 ? "" : ",") + "\"" + name + "\"";
    }
    lines << "{\"images\":[" << names << R"(],"messages":[{"role":"user","content":"<image>)"
          << R"(<image> which comes next?"},{"role":"assistant","content":"This: <image>"},)"
          << R"({"role":"user","content":"what is it?"},{"role":"assistant","content":"it is )"
          << emoji.describe((3 * i + 2) % emoji.size()).caption() << "\"}]}\n";
  }
  return path;
}

std::string talk_toml(const std::string& directory, int64_t count = kTalks) {
  std::string toml = small_toml(directory);
  const std::string path = write_talk(directory + "-data", count);
  toml = toml.substr(0, toml.find("[[stage.objectives]]\nkind = \"caption\""));
  return toml +
         "[[stage.objectives]]\nkind = \"converse\"\nshare = 1\ndata = \"talk\"\n"
         "branch = \"understanding\"\n[[stage.objectives]]\nkind = \"draw\"\nshare = 1\n"
         "data = \"talk\"\nbranch = \"generation\"\ncondition = \"messages\"\n"
         "[data.talk]\ntrain = \"" +
         path + "\"\nvalidation = \"" + path + "\"\ntest = \"" + path + "\"\n";
}

class Conversations : public ::testing::Test {
 protected:
  struct Made {
    Made(const RunConfig& config, Communicator& comm)
        : things(config, comm, at::kCPU), stage(things, config.stages[1], true) {}
    NamedThings things;
    Stage stage;
  };

  RunConfig config(const std::vector<std::string>& sets = {}) const {
    std::vector<std::string> all = {"model.y.max_pictures=3"};
    all.insert(all.end(), sets.begin(), sets.end());
    return load_run_config(path_, all);
  }
  // Losses of some slots, those of the two objectives apart.
  static std::vector<double> losses_of(Made& made, int64_t steps = 2) {
    const torch::NoGradGuard no_grad;
    std::vector<double> all;
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t slot = 0; slot < 4; ++slot) {
        for (const at::Tensor& loss : made.stage.compute(made.stage.load(step, slot))) {
          all.push_back(loss.defined() ? loss.item<double>() : 0.0);
        }
      }
    }
    return all;
  }
  static std::vector<const DrawBatch*> draws_of(Made& made, std::vector<SlotBatch>& kept) {
    for (int64_t step = 0; step < 12; ++step) {
      for (int64_t slot = 0; slot < 4; ++slot) kept.push_back(made.stage.load(step, slot));
    }
    std::vector<const DrawBatch*> draws;
    for (const SlotBatch& batch : kept) {
      const auto* draw = dynamic_cast<const DrawBatch*>(batch.parts.front().get());
      if (draw != nullptr) draws.push_back(draw);
    }
    return draws;
  }

  std::string path_ = write_config(talk_toml(fresh_directory("run")));
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
};

TEST_F(Conversations, TrainOnPicturesFromMemoryAndFromDiskAlike) {
  path_ = write_config(talk_toml(fresh_directory("many"), 120));  // more than a MiB of pictures
  const RunConfig kept = config({"data.talk.shuffle_window=1000"});
  const RunConfig read = config({"data.talk.shuffle_window=1000", "data.talk.memory_mib=1"});
  Made in_memory(kept, *comm_), on_disk(read, *comm_);
  ASSERT_TRUE(in_memory.things.image_split("talk", "train").is_in_memory());
  ASSERT_FALSE(on_disk.things.image_split("talk", "train").is_in_memory());
  const std::vector<double> expected = losses_of(in_memory), found = losses_of(on_disk);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], 1e-4 * std::abs(expected[i])) << i;
  }
}

TEST_F(Conversations, ReadPicturesInTheOrderInWhichTheyAreShown) {
  const RunConfig wanted = config();
  Made made(wanted, *comm_);
  std::vector<SlotBatch> kept;
  const int64_t positions = made.things.model_as<YDecoder>("y", "a test").image_positions();
  int64_t after_two = 0;
  for (const DrawBatch* draw : draws_of(made, kept)) {
    const int64_t sequences = draw->drawn.size(0);
    // Two that are read and the one that is drawn, unless the condition is dropped.
    const at::Tensor pictures = draw->images.pictures;
    int64_t next = 0;
    for (int64_t b = 0; b < sequences; ++b) {
      const int64_t target = draw->drawn[b].item<int64_t>();
      if (target - next == 2) {
        ++after_two;
        const int64_t sample = pictures[next].item<int64_t>();
        EXPECT_LT(sample, kTalks) << "the first picture of a sample";
        EXPECT_EQ(pictures[next + 1].item<int64_t>(), kTalks + 2 * sample);
        EXPECT_EQ(pictures[target].item<int64_t>(), kTalks + 2 * sample + 1);
      } else {
        EXPECT_EQ(target, next);
      }
      next = target + 1;
    }
    EXPECT_EQ(draw->rows.pictures.size(0), pictures.size(0) * positions - sequences)
        << "of what is drawn all but the last";
  }
  EXPECT_GT(after_two, 0);
}

TEST_F(Conversations, DropTextsPicturesOrAllAsOftenAsAsked) {
  for (const char* which : {"condition_dropout", "text_dropout", "picture_dropout"}) {
    const std::string key = std::string("stage.both.objectives.draw.") + which + "=1";
    const RunConfig wanted = config(
        which == std::string("condition_dropout")
            ? std::vector<std::string>{key}
            : std::vector<std::string>{"stage.both.objectives.draw.condition_dropout=0", key});
    Made made(wanted, *comm_);
    const SequenceTokens& tokens = made.things.model_as<YDecoder>("y", "a test").text().tokens();
    std::vector<SlotBatch> kept;
    for (const DrawBatch* draw : draws_of(made, kept)) {
      const auto texts = draw->rows.text_ids.size(0), sequences = draw->drawn.size(0);
      const int64_t pictures = draw->images.pictures.size(0);
      const bool keeps_text = which == std::string("picture_dropout");
      EXPECT_EQ(texts == 2 * sequences, !keeps_text) << which;
      EXPECT_EQ(draw->rows.text_ids.eq(tokens.null).sum().item<int64_t>(),
                keeps_text ? 0 : sequences);
      EXPECT_EQ(pictures, which == std::string("text_dropout") ? 3 * sequences : sequences);
    }
  }
}

TEST_F(Conversations, PackedInPassesAddUpToTheSlot) {
  RunConfig wanted = config({"stage.both.objectives.draw.hidden_codes=1"});
  wanted.stages[1].tokens_per_pass = 100;
  Made made(wanted, *comm_);
  const torch::NoGradGuard no_grad;
  for (int64_t slot = 0; slot < 4; ++slot) {
    const auto whole = made.stage.compute(made.stage.load(1, slot));
    std::vector<double> sums(whole.size(), 0.0);
    for (const SlotBatch& pass : made.stage.load_passes(1, slot)) {
      const auto part = made.stage.compute(pass);
      for (size_t i = 0; i < part.size(); ++i) {
        if (part[i].defined()) sums[i] += part[i].item<double>();
      }
    }
    for (size_t i = 0; i < whole.size(); ++i) {
      if (!whole[i].defined()) continue;
      EXPECT_NEAR(sums[i] / whole[i].item<double>(), 1.0, 1e-5);
    }
  }
}

TEST_F(Conversations, AreEvaluatedAgainstTheLastPictureAgain) {
  const RunConfig wanted = config();
  Made made(wanted, *comm_);
  const std::string directory = fresh_directory("evaluation");
  std::filesystem::create_directories(directory);
  const std::vector<Section> sections = made.stage.evaluate(
      {.directory = directory, .picture_prefix = "x-", .is_final = true, .split = "test"});
  ASSERT_EQ(sections.size(), 2U);
  const auto& metrics = sections[1].metrics;
  const auto found = std::find_if(metrics.begin(), metrics.end(),
                                  [](const Metric& m) { return m.name == "psnr_db_unseen"; });
  ASSERT_NE(found, metrics.end());
  ASSERT_EQ(found->baselines.size(), 2U);
  EXPECT_EQ(found->baselines[0].label, "the last picture again");
  ASSERT_EQ(sections[1].pictures.size(), 2U);
  EXPECT_TRUE(std::filesystem::exists(sections[1].pictures[1].path));
}

TEST_F(Conversations, RefuseDropoutsThatDoNotFit) {
  EXPECT_THROW(config({"stage.both.objectives.draw.text_dropout=0.6",
                       "stage.both.objectives.draw.picture_dropout=0.6"}),
               ConfigError);
  EXPECT_THROW(config({"stage.both.objectives.draw.condition=\"caption\"",
                       "stage.both.objectives.draw.text_dropout=0.1"}),
               ConfigError);
}

TEST_F(Conversations, AreEvaluatedAlikeByOneRankAndByTwo) {
  const RunConfig wanted = config();
  const std::string directory = fresh_directory("evaluation");
  std::filesystem::create_directories(directory);
  const EvaluationRequest request{.directory = directory, .picture_prefix = "x-"};
  // Not for training: then nothing is exchanged while they are built.
  auto ranks = make_thread_communicators(2);
  NamedThings alone(wanted, *comm_, at::kCPU, false), first(wanted, *ranks[0], at::kCPU, false),
      second(wanted, *ranks[1], at::kCPU, false);
  Stage of_alone(alone, wanted.stages[1], false), of_first(first, wanted.stages[1], false),
      of_second(second, wanted.stages[1], false);
  const std::vector<Section> expected = of_alone.evaluate(request);
  std::thread helper([&] { of_second.evaluate(request); });
  const std::vector<Section> found = of_first.evaluate(request);
  helper.join();
  for (size_t i = 0; i < expected.size(); ++i) {
    for (size_t k = 0; k < expected[i].metrics.size(); ++k) {
      const double value = expected[i].metrics[k].value;
      EXPECT_NEAR(found[i].metrics[k].value, value, 1e-4 * std::abs(value) + 1e-6)
          << expected[i].metrics[k].name;
    }
  }
}

}  // namespace
}  // namespace espalier
