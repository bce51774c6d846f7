#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "trainer/models/world_model.h"
#include "trainer/named/episode_set.h"

namespace espalier {

// K consecutive steps of an episode, from `first` on; fewer when it is shorter.
struct EpisodeWindow {
  int64_t episode = 0;
  int64_t first = 0;
};

// The windows of a split, numbered.
class EpisodeWindows {
 public:
  enum class Order {
    kEveryStart,  // every place where K steps fit; one for a shorter episode: to train on
    kSideBySide,  // each step once: to measure on
  };
  EpisodeWindows(const EpisodeSet& set, int64_t length, Order order);
  // Of some episodes only.
  EpisodeWindows(const EpisodeSet& set, int64_t length, Order order,
                 const std::vector<int64_t>& episodes);

  int64_t size() const { return static_cast<int64_t>(windows_.size()); }
  const EpisodeWindow& at(int64_t i) const { return windows_.at(static_cast<size_t>(i)); }

 private:
  std::vector<EpisodeWindow> windows_;
};

// B windows, of whose B * K steps M exist; on the CPU. V views, D of them with depth, G with
// segmentation and J with trajectories, chunks of T actions of size A.
struct WindowBatch {
  WorldInputs inputs;
  at::Tensor actions;   // (M, T, A) fp32, as stored; behind the end of the episode its last one
  at::Tensor counted;   // (M, T) fp32: 1 before the end of the episode, 0 behind it
  at::Tensor previous;  // (M, A) fp32: the action before; zeros at the first step
  at::Tensor future;    // (M, V, 3, S, S) uint8: some steps ahead, at most the last frame
  at::Tensor depth, present_depth;  // (M, D, S, S) fp32 metres, ahead and now
  at::Tensor segmentation;          // (M, G, S, S) uint8, ahead
  at::Tensor trajectories;  // (M, J, 2, S / cell, S / cell) fp32 cells: how points of now will move
  std::vector<int64_t> future_steps;  // M: numbers of the future frames in the split

  int64_t steps() const { return inputs.images.size(0); }
};

// Reads and decodes; `ahead` is how many steps the future is away. Throws DataError for a damaged
// episode and ConfigError for an instruction with too many words. For any thread.
WindowBatch read_windows(const EpisodeSet& set, const WorldModel& model,
                         const std::vector<EpisodeWindow>& windows, int64_t ahead);

}  // namespace espalier
