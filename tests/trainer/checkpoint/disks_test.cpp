// One folder for all ranks, or a disk for each: what is checked, written, read and sent.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/thread_communicator.h"
#include "real_things.h"
#include "toy_room.h"
#include "trainer/checkpoint/checkpoint_broadcast.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/checkpointer.h"
#include "trainer/checkpoint/shared_directory.h"
#include "trainer/errors.h"
#include "trainer/host/host_name.h"
#include "trainer/update/step_loop.h"
#include "world_things.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string disk_of(const std::string& root, int rank) {
  return root + "/disk-" + std::to_string(rank);
}

void expect_in(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
}

TEST(SharedDirectory, IsFoundByAllRanksAndLeftAsItWas) {
  const std::string root = fresh_directory("run");
  fs::create_directories(root);
  std::ofstream(root + "/.shared-probe-of-a-start-that-was-killed");
  run_ranks(3, [&](Communicator& comm) { require_shared_directory(comm, root, 5); });
  EXPECT_TRUE(fs::is_empty(root));
}

TEST(SharedDirectory, RanksThatSeeAnotherOneAreNamedWithHostAndRemedy) {
  const std::string root = fresh_directory("run");
  for (const int rank : {0, 1, 2}) fs::create_directories(disk_of(root, rank));
  run_ranks(4, [&](Communicator& comm) {
    const std::string mine = disk_of(root, comm.rank() == 3 ? 0 : comm.rank());
    try {
      require_shared_directory(comm, mine, 0.3);
      ADD_FAILURE() << "rank " << comm.rank() << " was not told";
    } catch (const ConfigError& error) {
      expect_in(error.what(), "ranks 1, 2 (host " + host_name() + ")");
      expect_in(error.what(), "checkpoint.shared = false");
    }
  });
  EXPECT_TRUE(fs::is_empty(disk_of(root, 0)));
}

TEST(Disks, FileOfAnotherRankThatDoesNotShowIsNamedAndNothingIsCommitted) {
  const std::string root = fresh_directory("run");
  for (const int rank : {0, 1}) fs::create_directories(disk_of(root, rank));
  run_ranks(2, [&](Communicator& comm) {
    struct Listener : RunObserver {
      void on_checkpoint_failed(int64_t step, const std::string& why) override {
        failed = step;
        reason = why;
      }
      int64_t failed = -1;
      std::string reason;
    } observer;
    Checkpointer saver(comm, observer, {.root = disk_of(root, comm.rank()), .time_to_show_s = 0.2},
                       [](const json&) {});
    saver.start({{"a", torch::ones({4})}, {"b", torch::ones({3})}}, {}, 8);
    const std::string why = saver.settle();
    expect_in(why, "rank 1 (host " + host_name() + ") wrote ");
    expect_in(why, "rank-0001.safetensors");
    EXPECT_EQ(observer.failed, 8);
    EXPECT_EQ(observer.reason, why);
  });
  for (const int rank : {0, 1}) EXPECT_TRUE(fs::is_empty(disk_of(root, rank))) << rank;
}

TEST(Disks, CommitIsRefusedWhenANewerGenerationHasTakenTheFolder) {
  const std::string root = fresh_directory("run");
  fs::create_directories(root);
  run_ranks(2, [&](Communicator& comm) {
    RunObserver observer;
    Checkpointer saver(comm, observer, {.root = root, .is_ours = [] { return false; }},
                       [](const json&) {});
    saver.start({{"a", torch::ones({4})}}, {}, 8);
    expect_in(saver.settle(), "a newer generation has taken the run directory");
  });
  EXPECT_TRUE(fs::is_empty(root));
}

TEST(Disks, WhatRankZeroReadsReachesAllRanksInPiecesOfAnySize) {
  const TensorMap tensors = {{"a", torch::arange(100).to(at::kFloat)},
                             {"b", torch::full({7, 3}, 5, at::kLong)},
                             {"empty", torch::zeros({0, 4})},
                             {"flags", torch::tensor({true, false, true})},
                             {"half", torch::full({5}, 0.5).to(at::kBFloat16)},
                             {"number", torch::tensor(3.5)}};
  for (const int64_t piece : {1, 7, 64, 1 << 20}) {
    run_ranks(3, [&](Communicator& comm) {
      LoadedCheckpoint loaded;
      if (comm.rank() == 0) loaded = {"there", 12, {{"pi", 3.141592653589793}}, tensors};
      broadcast_checkpoint(comm, loaded, piece);
      EXPECT_EQ(loaded.path, "there");
      EXPECT_EQ(loaded.step, 12);
      EXPECT_EQ(loaded.state.at("pi"), 3.141592653589793);
      EXPECT_EQ(first_difference(loaded.tensors, tensors), "") << "pieces of " << piece;
    });
  }
}

// A run whose ranks have a disk each, stopped after so many steps.
RunOutcome train_apart(const std::string& root, int world, int64_t stop_after = -1) {
  struct Stopper : RunObserver {
    bool stop_requested() override { return left >= 0 && left-- == 0; }
    int64_t left = -1;
  };
  std::vector<RunConfig> configs;
  for (int rank = 0; rank < world; ++rank) {
    configs.push_back(toy_config(disk_of(root, rank), 10, {}, {"checkpoint.shared=false"}));
  }
  RunOutcome outcome = RunOutcome::kFinished;
  run_ranks(world, [&](Communicator& comm) {
    Stopper observer;
    observer.left = stop_after;
    const auto mine = run_training(configs[static_cast<size_t>(comm.rank())], comm, observer);
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST(Disks, RunWhoseRanksShareNoneResumesBitForBit) {
  const std::string straight = fresh_directory("straight"), resumed = fresh_directory("resumed");
  EXPECT_EQ(train_apart(straight, 2), RunOutcome::kFinished);
  for (const int64_t steps : {7, 6}) {  // in the first stage, and in the second
    EXPECT_EQ(train_apart(resumed, 2, steps), RunOutcome::kStopped);
  }
  EXPECT_EQ(train_apart(resumed, 2), RunOutcome::kFinished);
  EXPECT_EQ(
      first_difference(newest_tensors(disk_of(straight, 0)), newest_tensors(disk_of(resumed, 0))),
      "");
  const RunConfig shared = toy_config(fresh_directory("shared"), 10);
  train_toy(shared, 2);
  EXPECT_EQ(
      first_difference(newest_tensors(disk_of(straight, 0)), newest_tensors(shared.directory)), "");
  EXPECT_FALSE(fs::exists(disk_of(resumed, 1))) << "what rank 1 has to keep, rank 0 keeps";
}

TEST(Disks, DamagedCheckpointOfRankZeroIsPassedOverByAllRanks) {
  const std::string root = fresh_directory("run");
  train_apart(root, 2, 7);
  const std::string checkpoints = disk_of(root, 0) + "/checkpoints";
  fs::resize_file(checkpoints + "/step-0000000007/rank-0000.safetensors", 60);
  EXPECT_EQ(train_apart(root, 2), RunOutcome::kFinished);
  int64_t set_aside = 0;
  for (const auto& event : read_events(disk_of(root, 0))) {
    set_aside += event.at("event") == "checkpoint_quarantined";
  }
  EXPECT_EQ(set_aside, 1);
}

// Trains the stages of a config one after the other, some steps of each, and compares what each
// rank would write.
void expect_replicated(const RunConfig& config) {
  constexpr int kWorld = 2;
  std::vector<TensorMap> states(kWorld);
  run_ranks(kWorld, [&](Communicator& comm) {
    NamedThings things(config, comm, at::kCPU, /*for_training=*/true, {});
    RunObserver observer;
    Checkpointer saver(comm, observer, {.root = config.directory}, [](const json&) {});
    TensorMap& mine = states[static_cast<size_t>(comm.rank())];
    for (const StageConfig& stage_config : config.stages) {
      Stage stage(things, stage_config, /*for_training=*/true);
      // Ranks that are threads share the generator of first weights, so those of rank 0 are given
      // to all; ranks that are processes each draw the same from the seed.
      for (const auto& [name, tensor] : stage.state()) comm.broadcast(tensor.detach(), 0)->wait();
      stage.state_changed();
      StepLoop loop(stage, comm, observer, saver, {config, at::kCPU, 0, stage_config.steps});
      for (int i = 0; i < 3; ++i) loop.step();
      TensorMap all = stage.state();
      all.merge(loop.state());
      for (const auto& [name, tensor] : all) mine[stage_config.name + "/" + name] = tensor.clone();
    }
  });
  EXPECT_GT(states[0].size(), 10u);
  EXPECT_EQ(first_difference(states[0], states[1]), "");
}

TEST(StateOfARun, IsTheSameBitForBitOnEveryRankWhateverTheObjective) {
  const std::vector<std::string> sets = {"data.emoji.validation=[]", "data.emoji.test=[]"};
  expect_replicated(toy_config(fresh_directory("toy"), 4));
  expect_replicated(small_config(fresh_directory("emoji"), sets));
  const WorldFiles world;
  expect_replicated(world.config(fresh_directory("world")));
}

TEST(StateOfARun, IsTheSameBitForBitOnEveryRankWithATeacher) {
  const std::string teacher = write_teacher(fresh_directory("teacher"));
  std::string text = small_toml(fresh_directory("emoji"));
  text.insert(text.find("[model.tokenizer]"),
              "[teacher.net]\nkind = \"efficientnet_lite0\"\nweights = \"" + teacher + "\"\n");
  for (const char* kind : {"kind = \"residual_evolution\"\n", "kind = \"masked_patches\"\n"}) {
    const size_t end = text.find(kind) + std::string(kind).size();
    text.insert(end, "teacher = \"net\"\n");
  }
  text.erase(text.find("[[stage]]\nname = \"both\""));
  expect_replicated(
      load_run_config(write_config(text), {"data.emoji.validation=[]", "data.emoji.test=[]"}));
}

}  // namespace
}  // namespace espalier
