#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "data/order/random.h"
#include "toy_room.h"
#include "trainer/checkpoint/checkpoint_files.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/checkpoint/checkpointer.h"
#include "trainer/errors.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Values depend on the step, so that checkpoints can be told apart.
TensorMap tensors_of_step(int64_t step, int64_t numbers = 1000) {
  const auto base = static_cast<float>(step);
  return {{"a", torch::arange(numbers).to(at::kFloat) + base},
          {"b", torch::full({7, 3}, step, at::kLong)},
          {"empty", torch::zeros({0, 4})},
          {"half", torch::full({5}, base).to(at::kBFloat16)}};
}

std::string new_root() {
  const std::string root = fresh_directory("checkpoints");
  fs::create_directories(root);
  return root;
}

void save_steps(const std::string& root, const std::vector<int64_t>& steps, int world = 1,
                int64_t keep = 10) {
  run_ranks(world, [&](Communicator& comm) {
    RunObserver observer;
    Checkpointer saver(comm, observer, {root, keep, 1}, [](const json&) {});
    for (const int64_t step : steps) {
      saver.start(tensors_of_step(step), {{"step", step}}, step);
      saver.finish();
    }
  });
}

std::optional<LoadedCheckpoint> load_newest(const std::string& root,
                                            std::vector<json>* events = nullptr) {
  const auto comm = make_single_communicator();
  return load_newest_checkpoint(*comm, root, [&](const json& event) {
    if (events) events->push_back(event);
  });
}

void flip_bit(const std::string& path, uint64_t bit) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto at = static_cast<std::streamoff>(bit / 8);
  file.seekg(at);
  char byte = 0;
  file.get(byte);
  file.seekp(at);
  file.put(static_cast<char>(byte ^ (1 << (bit % 8))));
}

TEST(Checkpoint, WrittenByAnyWorldReadsTheSameInAnyOther) {
  for (const int written_by : {1, 2, 4}) {
    const std::string root = new_root();
    save_steps(root, {8}, written_by);
    for (const int read_by : {1, 3}) {
      run_ranks(read_by, [&](Communicator& comm) {
        const auto loaded = load_newest_checkpoint(comm, root, [](const json&) {});
        ASSERT_TRUE(loaded);
        EXPECT_EQ(loaded->step, 8);
        EXPECT_EQ(loaded->state.at("step"), 8);
        EXPECT_EQ(first_difference(loaded->tensors, tensors_of_step(8)), "");
      });
    }
  }
}

TEST(Checkpoint, ShardsAreShared) {
  const auto writers = assign_writers(
      {{"big", torch::zeros(100)}, {"b", torch::zeros(40)}, {"c", torch::zeros(50)}}, 2);
  EXPECT_EQ(writers.at("big"), 0);
  EXPECT_EQ(writers.at("b"), 1);
  EXPECT_EQ(writers.at("c"), 1);
}

TEST(Checkpoint, HoldsTheValuesOfTheMomentItWasAskedFor) {
  const std::string root = new_root();
  const auto comm = make_single_communicator();
  RunObserver observer;
  Checkpointer saver(*comm, observer, {root, 2, 1}, [](const json&) {});
  TensorMap live = tensors_of_step(1, 1 << 22);
  saver.start(live, {}, 1);
  for (auto& [name, tensor] : live) tensor.zero_();  // the next update, while the thread writes
  saver.finish();
  EXPECT_EQ(first_difference(load_newest(root)->tensors, tensors_of_step(1, 1 << 22)), "");
}

TEST(Checkpoint, NothingThereIsNoCheckpoint) {
  EXPECT_FALSE(load_newest(new_root()));
  EXPECT_FALSE(load_newest("/nowhere/at/all"));
}

TEST(Checkpoint, EveryFlippedBitIsFound) {
  const std::string root = new_root();
  save_steps(root, {4}, 2);
  const std::string path = root + "/step-0000000004";
  ASSERT_EQ(find_damage(path), "");
  CounterRng random(1, 1);
  for (const auto& entry : fs::directory_iterator(path)) {
    const auto bits = 8 * static_cast<uint64_t>(fs::file_size(entry));
    for (int i = 0; i < 60; ++i) {
      const uint64_t bit = random.below(bits);
      flip_bit(entry.path(), bit);
      EXPECT_NE(find_damage(path), "") << entry.path() << " bit " << bit;
      flip_bit(entry.path(), bit);
    }
  }
  EXPECT_EQ(find_damage(path), "");
}

TEST(Checkpoint, TruncatedMissingEmptyAndSwappedFilesAreFound) {
  const std::string root = new_root();
  save_steps(root, {4}, 2);
  const std::string good = root + "/step-0000000004";
  const std::vector<std::pair<std::string, std::function<void(const std::string&)>>> damages = {
      {"truncated", [](auto& p) { fs::resize_file(p + "/rank-0001.safetensors", 40); }},
      {"empty", [](auto& p) { fs::resize_file(p + "/rank-0000.safetensors", 0); }},
      {"missing", [](auto& p) { fs::remove(p + "/rank-0001.safetensors"); }},
      {"no manifest", [](auto& p) { fs::remove(p + "/manifest.json"); }},
      {"no state", [](auto& p) { fs::remove(p + "/state.json"); }},
      {"a pipe for a manifest",
       [](auto& p) {
         fs::remove(p + "/manifest.json");
         ASSERT_EQ(::mkfifo((p + "/manifest.json").c_str(), 0600), 0);
       }},
      {"a pipe for a shard",
       [](auto& p) {
         fs::remove(p + "/rank-0000.safetensors");
         ASSERT_EQ(::mkfifo((p + "/rank-0000.safetensors").c_str(), 0600), 0);
       }},
      {"longer", [](auto& p) { std::ofstream(p + "/state.json", std::ios::app) << " "; }},
      {"swapped", [](auto& p) {
         fs::rename(p + "/rank-0000.safetensors", p + "/x");
         fs::rename(p + "/rank-0001.safetensors", p + "/rank-0000.safetensors");
         fs::rename(p + "/x", p + "/rank-0001.safetensors");
       }}};
  for (const auto& [name, damage] : damages) {
    const std::string copy = fresh_directory("copy") + "/step-0000000004";
    fs::create_directories(copy);
    fs::copy(good, copy);
    ASSERT_EQ(find_damage(copy), "");
    damage(copy);
    EXPECT_NE(find_damage(copy), "") << name;
  }
  fs::create_directories(root + "/step-0000000009");
  fs::copy(good, root + "/step-0000000009");
  EXPECT_NE(find_damage(root + "/step-0000000009"), "") << "a checkpoint under another name";
}

TEST(Checkpoint, DamagedOneIsSetAsideAndTheOneBeforeIsLoaded) {
  const std::string root = new_root();
  save_steps(root, {4, 8, 12}, 2);
  flip_bit(root + "/step-0000000012/rank-0001.safetensors", 900);
  fs::resize_file(root + "/step-0000000008/rank-0000.safetensors", 100);
  std::vector<json> events;
  const auto loaded = load_newest(root, &events);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->step, 4);
  EXPECT_EQ(first_difference(loaded->tensors, tensors_of_step(4)), "");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].at("event"), "checkpoint_quarantined");
  EXPECT_NE(events[0].at("reason").get<std::string>().find("rank-0001"), std::string::npos);
  EXPECT_TRUE(fs::exists(events[0].at("moved_to").get<std::string>()));
  EXPECT_EQ(list_checkpoints(root).size(), 1u);
}

TEST(Checkpoint, FilesThatAreNotOfItAreNamedAndNotRead) {
  const std::string root = new_root();
  save_steps(root, {4}, 2);
  const std::string path = root + "/step-0000000004";
  fs::copy(path + "/rank-0001.safetensors", path + "/rank-0002.safetensors");
  std::vector<json> events;
  const auto loaded = load_newest(root, &events);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(first_difference(loaded->tensors, tensors_of_step(4)), "");
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].at("event"), "checkpoint_has_other_files");
  EXPECT_EQ(events[0].at("files"), json({"rank-0002.safetensors"}));
}

TEST(Checkpoint, OnlyDamagedOnesNeverStartOver) {
  const std::string root = new_root();
  save_steps(root, {4, 8});
  flip_bit(root + "/step-0000000004/manifest.json", 900);
  fs::remove(root + "/step-0000000008/state.json");
  for (int attempt = 0; attempt < 2; ++attempt) {
    EXPECT_THROW(load_newest(root), DoNotRequeueError) << "attempt " << attempt;
  }
}

TEST(Checkpoint, DamagedOneAskedForByPathIsRefusedAndLeftWhereItIs) {
  const std::string root = new_root();
  save_steps(root, {4});
  const std::string path = root + "/step-0000000004";
  flip_bit(path + "/rank-0000.safetensors", 900);
  const auto comm = make_single_communicator();
  EXPECT_THROW(load_checkpoint_at(*comm, path), DoNotRequeueError);
  EXPECT_TRUE(fs::exists(path));
  EXPECT_THROW(load_checkpoint_at(*comm, root + "/none"), ConfigError);
  EXPECT_THROW(load_checkpoint_at(*comm, ::testing::TempDir()), ConfigError);
}

// The reason holds the byte, which is no UTF-8, and travels as JSON.
TEST(Checkpoint, FlippedHighBitInAnOlderManifestIsSetAsideAndSavingGoesOn) {
  const std::string root = new_root();
  save_steps(root, {4, 8}, 2);
  flip_bit(root + "/step-0000000004/manifest.json", 33 * 8 + 7);
  save_steps(root, {12}, 2);
  std::vector<int64_t> left;
  for (const auto& entry : list_checkpoints(root)) left.push_back(entry.step);
  EXPECT_EQ(left, (std::vector<int64_t>{8, 12}));
  flip_bit(root + "/step-0000000012/manifest.json", 33 * 8 + 7);
  run_ranks(2, [&](Communicator& comm) {
    const auto loaded = load_newest_checkpoint(comm, root, [](const json&) {});
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->step, 8);
  });
}

TEST(Checkpoint, RetentionCountsOnlyThoseThatVerify) {
  const std::string root = new_root();
  save_steps(root, {4, 8, 12});
  flip_bit(root + "/step-0000000008/rank-0000.safetensors", 900);
  save_steps(root, {16}, 1, 3);  // a new process: nothing is known to be good
  std::vector<int64_t> left;
  for (const auto& entry : list_checkpoints(root)) left.push_back(entry.step);
  EXPECT_EQ(left, (std::vector<int64_t>{4, 12, 16}));
  save_steps(root, {20}, 1, 2);
  left.clear();
  for (const auto& entry : list_checkpoints(root)) left.push_back(entry.step);
  EXPECT_EQ(left, (std::vector<int64_t>{16, 20}));
}

TEST(Checkpoint, CommitThatIsRefusedLeavesNothing) {
  struct Refusing : RunObserver {
    bool approve_commit(int64_t) override { return false; }
  };
  const std::string root = new_root();
  run_ranks(2, [&](Communicator& comm) {
    Refusing refusing;
    RunObserver agreeing;
    RunObserver& observer = comm.rank() == 1 ? static_cast<RunObserver&>(refusing) : agreeing;
    Checkpointer saver(comm, observer, {root, 2, 1}, [](const json&) {});
    saver.start(tensors_of_step(4), {}, 4);
    EXPECT_NE(saver.settle().find("refused"), std::string::npos);
  });
  EXPECT_TRUE(fs::is_empty(root));
}

TEST(Checkpoint, StateThatIsNotFiniteIsNeverSaved) {
  const std::string root = new_root();
  const auto comm = make_single_communicator();
  RunObserver observer;
  Checkpointer saver(*comm, observer, {root, 2, 1}, [](const json&) {});
  TensorMap tensors = tensors_of_step(4);
  tensors["a"][17] = std::numeric_limits<float>::quiet_NaN();
  saver.start(tensors, {}, 4);
  EXPECT_THROW(saver.finish(), DoNotRequeueError);
  EXPECT_TRUE(list_checkpoints(root).empty());
}

TEST(Checkpoint, RemainsOfAnInterruptedSaveAreNotLoaded) {
  const std::string root = new_root();
  save_steps(root, {4});
  fs::create_directories(root + "/step-0000000008.tmp-g1-2");
  fs::create_directories(root + "/step-0000000002.tmp-removed");
  EXPECT_EQ(load_newest(root)->step, 4);
  remove_temporaries(root);
  EXPECT_EQ(std::distance(fs::directory_iterator(root), {}), 1);
}

TEST(Manifest, NamesThatLeaveTheDirectoryAreRefused) {
  for (const char* name : {"../x", "a/b", "", ".hidden"}) {
    const Manifest manifest{4, 1, 1, {{name, FileDigest{1, "00"}}}};
    EXPECT_THROW(parse_manifest(manifest_text(manifest), "m"), StorageError) << name;
  }
}

}  // namespace
}  // namespace espalier
