#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "trainer/models/model.h"
#include "trainer/models/world_model_settings.h"

namespace espalier {

class NamedThings;
struct ModelConfig;

// DreamVLA as a model of a run: words, state and images of the last steps of an episode, dreams of
// the next ones, actions. Sizes of images, state and actions are those of its episodes.
class WorldModel : public Model {
 public:
  WorldModel(const ModelConfig& config, NamedThings& things);

  // "trunk" (encoders, queries, trunk), "dream.KIND" for the decoder of each kind, "action".
  std::vector<ParameterGroup> parameter_groups() override;
  TensorMap state() override;
  void weights_updated() override;
  void state_changed() override { weights_updated(); }

  const WorldModelSettings& settings() const { return settings_; }
  const EpisodeIndex& index() const { return index_; }
  WorldNetwork& network() { return network_; }
  WorldLayout& layout() { return layout_; }
  at::Device device() const { return device_; }
  bool is_discrete() const { return index_.action_kind == ActionKind::kDiscrete; }
  bool has_diffusion() const { return network_->options().head == ActionHead::kDiffusion; }

  // Word ids of an instruction, 0 for a word that training did not have; ConfigError when there are
  // more than max_words. (max_words) int64, padded with 0, and how many count.
  std::pair<at::Tensor, int64_t> encode(const std::string& instruction) const;

  // Actions as the head has them: one-hot ones are -1 and 1.
  at::Tensor to_head(const at::Tensor& actions) const {
    return is_discrete() ? actions * 2.0 - 1.0 : actions;
  }
  // Chunks (M, action_queries, action_size) fp32 for hidden rows of action queries, from noise of
  // that shape, which the direct head ignores. Continuous ones are cut to [-1, 1]; of discrete ones
  // the largest counts.
  at::Tensor act(const at::Tensor& action_rows, const at::Tensor& noise);

 private:
  WorldModelSettings settings_;
  std::string name_;
  at::Device device_;
  const EpisodeIndex& index_;
  WorldLayout layout_;
  WorldNetwork network_{nullptr};
};

}  // namespace espalier
