#include "world_things.h"

#include "toy_room.h"

namespace espalier {
namespace {

constexpr TestShape kShape{.height = 8, .width = 8, .actions = 2, .state = 3};

StoredEpisode episode(int number, const std::string& task, int64_t seed, int steps) {
  char key[16];
  std::snprintf(key, sizeof key, "%08d", number);
  StoredEpisode stored = stored_episode(key, task, seed, steps, kShape);
  stored.primary = text_of(encode_png(strip_of(steps, 3 * number, kShape)));
  StoredArray other = stored.arrays.back();  // segmentation of the wrist
  other.name = "segmentation.primary";
  stored.arrays.push_back(std::move(other));
  std::vector<float> moves;  // of 2 x 2 cells: right and down
  for (int i = 0; i < steps * 4; ++i) {
    moves.push_back(0.5F * static_cast<float>(i % 3));
    moves.push_back(-0.25F);
  }
  stored.arrays.push_back({"trajectory.primary", "F32", {steps, 2, 2, 2}, float_bytes(moves)});
  return stored;
}

}  // namespace

WorldFiles::WorldFiles(bool is_discrete) : files_(kShape) {
  files_.index["segmentation"] = {"primary", "wrist"};
  files_.index["trajectory"] = {{"views", {"primary"}}, {"ahead", 2}, {"cell", 4}};
  files_.index["simulator"] = "sums";
  files_.index["action"]["kind"] = is_discrete ? "discrete" : "continuous";
  std::vector<StoredEpisode> train;
  for (int i = 0; i < 8; ++i) {
    train.push_back(episode(i, i % 2 == 0 ? "Reach" : "Push", i, 2 + i % 5));
  }
  files_.add_shard("train-00000.tar", "train", train);
  files_.add_shard("validation-00000.tar", "validation",
                   {episode(8, "Reach", 100, 5), episode(9, "Push", 101, 3)});
  files_.add_shard("test-00000.tar", "test",
                   {episode(10, "Reach", 200, 4), episode(11, "Push", 201, 6)});
  index_ = files_.write();
}

std::string WorldFiles::toml(const std::string& directory) const {
  return "seed = 3\n[run]\ndirectory = \"" + directory + "\"\n[episodes.sums]\npath = \"" + index_ +
         "\"\npython = \"python3\"\nscript = \"" + ESPALIER_SOURCE_DIR +
         "/tests/trainer/simulator/arithmetic_bridge.py\"\narguments = \"--size=8\"\n" +
         R"([model.world]
kind = "world_model"
episodes = "sums"
mask = ")" ESPALIER_SOURCE_DIR R"(/configs/masks/dreamvla.toml"
width = 24
layers = 2
heads = 2
timesteps = 3
patch = 4
action_queries = 2
semantic_channels = 5
semantic_side = 2
encoder = { width = 16, blocks = 1, heads = 2 }
resampler = { latents = 2, heads = 2, head_width = 8 }
queries = { dynamic = 2, depth = 2, semantic = 2, trajectory = 2 }
decoder = { width = 16, blocks = 1, heads = 2 }
diffusion = { width = 16, layers = 1, heads = 2, steps = 20, sampling_steps = 4 }
[compute]
device = "cpu"
threads_per_rank = 1
[[stage]]
name = "world"
trains = "world"
steps = 4
batch_size = 8
micro_batch_size = 2
[stage.optimizer]
warmup_steps = 2
[[stage.objectives]]
kind = "world_model"
future = 2
noise_repeats = 2
rollouts = 3
weight = { depth = 0.1, semantic = 0.1 }
)";
}

RunConfig WorldFiles::config(const std::string& directory,
                             const std::vector<std::string>& sets) const {
  return load_run_config(write_config(toml(directory)), sets);
}

}  // namespace espalier
