#include "real_things.h"

#include <filesystem>

#include <torch/torch.h>

#include "toy_room.h"

namespace espalier {

std::string small_toml(const std::string& directory) {
  const std::string shard = ESPALIER_SOURCE_DIR "/data/emoji/emoji-32-test.tar";
  return "seed = 3\n[run]\ndirectory = \"" + directory + "\"\n[data.emoji]\ntrain = \"" + shard +
         "\"\nvalidation = \"" + shard + "\"\ntest = \"" + shard + R"("
[text.names]
data = "emoji"
vocabulary_size = 320
[model.tokenizer]
kind = "residual_image_tokenizer"
width = 8
latent_channels = 4
codebook_size = 16
encoder_blocks = 1
decoder_blocks = 1
[model.y]
kind = "y_decoder"
image_tokenizer = "tokenizer"
text = "names"
width = 32
heads = 2
kv_heads = 2
feed_forward_width = 48
trunk_layers = 1
depth_width = 32
depth_heads = 2
depth_layers = 1
depth_feed_forward_width = 48
[model.y.branch.understanding]
layers = 1
[model.y.branch.generation]
layers = 1
head = "codes"
[compute]
device = "cpu"
threads_per_rank = 1
[[stage]]
name = "codes"
trains = "tokenizer"
steps = 6
batch_size = 16
micro_batch_size = 4
[stage.optimizer]
warmup_steps = 2
[[stage.objectives]]
kind = "residual_evolution"
data = "emoji"
[[stage.objectives]]
kind = "masked_patches"
data = "emoji"
width = 8
[[stage]]
name = "both"
trains = "y"
steps = 6
batch_size = 8
micro_batch_size = 2
[stage.optimizer]
warmup_steps = 2
[[stage.objectives]]
kind = "caption"
share = 1
data = "emoji"
branch = "understanding"
[[stage.objectives]]
name = "group"
kind = "answer"
question = "what group is this?"
share = 1
data = "emoji"
branch = "understanding"
[[stage.objectives]]
kind = "draw"
share = 2
data = "emoji"
branch = "generation"
)";
}

RunConfig small_config(const std::string& directory, const std::vector<std::string>& sets) {
  return load_run_config(write_config(small_toml(directory)), sets);
}

std::string write_teacher(const std::string& directory) {
  const std::string golden =
      ESPALIER_SOURCE_DIR "/tests/parity/golden/efficientnet_lite.safetensors";
  std::filesystem::create_directories(directory);
  torch::manual_seed(1);
  TensorMap weights;
  for (const auto& [name, shape] : read_safetensors(golden)) {
    if (!name.starts_with("shape.")) continue;
    const auto* data = shape.const_data_ptr<int64_t>();
    const std::vector<int64_t> sizes(data, data + shape.numel());
    weights[name.substr(6)] = torch::rand(sizes) * (sizes.size() == 4 ? 0.1 : 1.0);
  }
  const std::string path = directory + "/teacher.safetensors";
  write_safetensors(path, weights);
  return path;
}

}  // namespace espalier
