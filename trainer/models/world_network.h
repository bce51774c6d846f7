#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "models/world_model/action_diffusion.h"
#include "models/world_model/dream_decoder.h"
#include "models/world_model/image_patches.h"
#include "models/world_model/instruction_encoder.h"
#include "models/world_model/perceiver_resampler.h"
#include "models/world_model/query_tokens.h"
#include "models/world_model/world_trunk.h"
#include "trainer/models/world_layout.h"

namespace espalier {

enum class ActionHead {
  kDiffusion,  // of noise, or of a flow: ActionDiffusion
  kDirect,     // one linear on each action query's hidden row
};

struct DreamOptions {
  std::string kind;  // of dream_kinds()
  int64_t views = 1;
  DreamDecoderOptions decoder;  // its queries are those of one view
  int64_t tokens() const { return views * decoder.queries; }
};

struct WorldNetworkOptions {
  int64_t views = 1;
  int64_t state_size = 1;
  InstructionEncoderOptions instruction;
  ImagePatchesOptions image;
  PerceiverResamplerOptions resampler;
  WorldTrunkOptions trunk;
  std::vector<DreamOptions> dreams;  // those that are on
  bool share_query = false;
  int64_t action_queries = 3;  // actions of a chunk
  int64_t action_size = 7;
  ActionHead head = ActionHead::kDiffusion;
  ActionDiffusionOptions diffusion;  // its sizes of condition, action and chunk follow

  int64_t patches() const {  // of an image
    const int64_t side = image.image_size / image.patch;
    return side * side;
  }
  // Of all views of a timestep; without latents an image's patches come into the trunk themselves.
  int64_t observation_tokens() const {
    return views * ((resampler.latents > 0 ? resampler.latents : patches()) + 1);
  }
};

// What is seen and said in B windows of K timesteps, of which M exist: an episode may be shorter.
struct WorldInputs {
  at::Tensor images;             // (M, views, 3, S, S) uint8; or
  at::Tensor observed;           // (M, observation_tokens, width) fp32, made by observe()
  at::Tensor state;              // (M, state_size) fp32, as the simulator gives it
  at::Tensor steps;              // (M) int64: b * K + k of each, rising
  at::Tensor words;              // (B, longest) int64
  std::vector<int64_t> lengths;  // B: words of each instruction

  int64_t samples() const { return static_cast<int64_t>(lengths.size()); }
  WorldInputs to(at::Device device) const;
};

// DreamVLA (models/dreamvla_model.py) with encoders that are trained from scratch: words, state and
// views of each timestep, then queries that dream and act, through a trunk whose mask is a file's.
class WorldNetworkImpl : public torch::nn::Module {
 public:
  WorldNetworkImpl(const WorldNetworkOptions& options, const at::Tensor& state_mean,
                   const at::Tensor& state_std);

  // Tokens of images (M, views, 3, S, S) uint8, for those who see an image more than once: latents
  // (or patches) and then the pooled token, view after view.
  at::Tensor observe(const at::Tensor& images);

  // Hidden rows (B * rows, width) fp32 of all windows. Rows of steps that do not exist mean
  // nothing.
  at::Tensor hidden(const WorldInputs& inputs, WorldLayout& layout);

  // Of the M steps that exist, what is dreamt: (M * views, patches, patch_width), dream `d` of the
  // options. Values of what the step after some time will look like.
  at::Tensor dream(const at::Tensor& hidden, const WorldInputs& inputs, const WorldLayout& layout,
                   size_t d);
  // Hidden rows of their action queries: (M, action_queries, width).
  at::Tensor action_rows(const at::Tensor& hidden, const WorldInputs& inputs,
                         const WorldLayout& layout);

  const WorldNetworkOptions& options() const { return options_; }
  int64_t query_width() const;  // of a dream's hidden row

  InstructionEncoder instruction{nullptr};
  ImagePatches image{nullptr};
  PerceiverResampler resampler{nullptr};  // null without latents
  Linear observation_in{nullptr}, state_in{nullptr};
  at::Tensor view_position;            // (views, width)
  at::Tensor state_mean, state_std;    // (state_size), of the training data
  QueryTokens dream_queries{nullptr};  // null without dreams
  QueryTokens action_queries{nullptr};
  WorldTrunk trunk{nullptr};
  std::vector<DreamDecoder> decoders;  // by dream
  ActionDiffusion diffusion{nullptr};  // or
  Linear direct{nullptr};

 private:
  at::Tensor tokens(const WorldInputs& inputs, int64_t timesteps);

  WorldNetworkOptions options_;
};
TORCH_MODULE(WorldNetwork);

}  // namespace espalier
