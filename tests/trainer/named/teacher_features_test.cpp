#include "trainer/named/teacher_features.h"

#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "models/errors.h"
#include "real_things.h"
#include "toy_room.h"
#include "trainer/named/named_things.h"

namespace espalier {
namespace {

class TeacherFeaturesTest : public ::testing::Test {
 protected:
  TeacherFeaturesTest()
      : directory_(fresh_directory("teacher")),
        weights_(write_teacher(directory_)),
        network_(registry().teacher("efficientnet_lite0", "a test").make(weights_)) {
    torch::manual_seed(2);
    images_ = torch::randint(256, {5, 3, 32, 32}).to(at::kByte);
  }
  TeacherRequest request(const std::string& fingerprint, const std::string& cache) const {
    return {.levels = images_,
            .fingerprint = fingerprint,
            .weights_path = weights_,
            .side = 2,
            .mirrored = true,
            .cache_path = cache};
  }

  std::string directory_, weights_;
  std::unique_ptr<Teacher> network_;
  at::Tensor images_;
  std::unique_ptr<Communicator> comm_ = make_single_communicator();
};

TEST_F(TeacherFeaturesTest, ASecondViewIsOfTheMirroredImage) {
  const at::Tensor made = teacher_features(*comm_, *network_, request("one", ""));
  EXPECT_EQ(made.sizes(), (std::vector<int64_t>{5, 2, 4, 1280}));
  TeacherRequest flipped = request("flipped", "");
  flipped.levels = images_.flip({3});
  EXPECT_TRUE(
      torch::equal(made.select(1, 1), teacher_features(*comm_, *network_, flipped).select(1, 0)));
}

TEST_F(TeacherFeaturesTest, AKeptFileIsBelievedOnlyForTheImagesItSaysItIsOf) {
  const std::string cache = directory_ + "/cache/features.safetensors";
  const at::Tensor made = teacher_features(*comm_, *network_, request("one", cache));
  write_safetensors(cache, {{"features", torch::zeros_like(made)}},
                    read_safetensors_metadata(cache));
  EXPECT_EQ(
      teacher_features(*comm_, *network_, request("one", cache)).count_nonzero().item<int64_t>(),
      0);
  EXPECT_TRUE(torch::equal(teacher_features(*comm_, *network_, request("two", cache)), made));
  std::ofstream(cache) << "damaged";
  EXPECT_TRUE(torch::equal(teacher_features(*comm_, *network_, request("two", cache)), made));
}

TEST_F(TeacherFeaturesTest, AreTheSameForAnyNumberOfRanks) {
  const at::Tensor expected = teacher_features(*comm_, *network_, request("x", ""));
  const auto comms = make_thread_communicators(3);
  std::vector<at::Tensor> got(3);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < 3; ++rank) {
    threads.emplace_back(
        [&, rank] { got[rank] = teacher_features(*comms[rank], *network_, request("x", "")); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& features : got) {
    EXPECT_TRUE(torch::allclose(features.to(at::kFloat), expected.to(at::kFloat), 1e-2, 1e-3));
  }
}

TEST_F(TeacherFeaturesTest, MissingWeightsNameTheSettingTheFileAndTheRemedy) {
  RunConfig config = small_config(directory_ + "/run");
  TeacherConfig& teacher = config.teachers.emplace_back();
  teacher.name = "lite0";
  teacher.kind = "efficientnet_lite0";
  teacher.weights = "nowhere/teacher.safetensors";
  NamedThings things(config, *comm_, at::kCPU);
  try {
    things.teacher("lite0", "emoji", "train", 4, false);
    FAIL() << "no error";
  } catch (const WeightsError& error) {
    const std::string message = error.what();
    for (const char* part :
         {"teacher.lite0.weights", "nowhere/teacher.safetensors", "prepare_teacher.py"}) {
      EXPECT_NE(message.find(part), std::string::npos) << message;
    }
  }
}

}  // namespace
}  // namespace espalier
