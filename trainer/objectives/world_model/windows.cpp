#include "trainer/objectives/world_model/windows.h"

#include <algorithm>
#include <numeric>

#include <torch/torch.h>

namespace espalier {
namespace {

// A copy of values that lie in a vector.
template <class T>
at::Tensor tensor_of(const std::vector<T>& values, at::IntArrayRef shape) {
  const auto type = std::is_same_v<T, float> ? at::kFloat : at::kByte;
  at::Tensor result = at::empty(shape, type);
  TORCH_CHECK(result.numel() == std::ssize(values), "an episode has another size than its index");
  std::copy(values.begin(), values.end(), result.mutable_data_ptr<T>());
  return result;
}

// (steps, lists, height, width) of some of the steps.
template <class T>
at::Tensor planes_of(const std::vector<std::vector<T>>& lists, const at::Tensor& steps,
                     at::IntArrayRef shape) {
  if (lists.empty()) return {};
  std::vector<at::Tensor> all;
  for (const auto& list : lists) all.push_back(tensor_of(list, shape).index_select(0, steps));
  return at::stack(all, 1);
}

// (steps, V, 3, S, S)
at::Tensor frames_of(const Episode& episode, const EpisodeIndex& index, const at::Tensor& steps) {
  std::vector<at::Tensor> views;
  for (const auto& view : episode.frames) {
    views.push_back(tensor_of(view, {episode.steps, index.height, index.width, 3})
                        .index_select(0, steps)
                        .permute({0, 3, 1, 2}));
  }
  return at::stack(views, 1);
}

class BatchBuilder {
 public:
  BatchBuilder(const EpisodeSet& set, const WorldModel& model, int64_t ahead)
      : set_(set), index_(set.index()), model_(model), ahead_(ahead) {}

  void add(const EpisodeWindow& window) {
    const Episode episode = set_.read(window.episode);
    const int64_t length = model_.settings().timesteps;
    const int64_t count = std::min(length, episode.steps - window.first);
    const at::Tensor now = at::arange(window.first, window.first + count, at::kLong);
    const at::Tensor then = (now + ahead_).clamp_max(episode.steps - 1);
    images_.push_back(frames_of(episode, index_, now));
    future_.push_back(frames_of(episode, index_, then));
    state_.push_back(
        tensor_of(episode.state, {episode.steps, index_.state_size()}).index_select(0, now));
    steps_.push_back(at::arange(count, at::kLong) + samples_++ * length);
    add_actions(episode, now);
    const std::vector<int64_t> shape = {episode.steps, index_.height, index_.width};
    add_if(depth_, planes_of(episode.depth, then, shape));
    add_if(present_depth_, planes_of(episode.depth, now, shape));
    add_if(segmentation_, planes_of(episode.segmentation, then, shape));
    add_trajectories(episode, now);
    for (int64_t i = 0; i < count; ++i) {
      future_steps_.push_back(set_.first_step(window.episode) + then[i].item<int64_t>());
    }
    const auto [words, said] = model_.encode(episode.instruction);
    words_.push_back(words);
    lengths_.push_back(said);
  }

  WindowBatch finish() {
    const auto joined = [](const std::vector<at::Tensor>& parts) {
      return parts.empty() ? at::Tensor() : at::cat(parts);
    };
    return {.inputs = {.images = joined(images_),
                       .observed = {},
                       .state = joined(state_),
                       .steps = joined(steps_),
                       .words = at::stack(words_),
                       .lengths = lengths_},
            .actions = joined(actions_),
            .counted = joined(counted_),
            .previous = joined(previous_),
            .future = joined(future_),
            .depth = joined(depth_),
            .present_depth = joined(present_depth_),
            .segmentation = joined(segmentation_),
            .trajectories = joined(trajectories_),
            .future_steps = future_steps_};
  }

 private:
  static void add_if(std::vector<at::Tensor>& parts, const at::Tensor& part) {
    if (part.defined()) parts.push_back(part);
  }

  void add_trajectories(const Episode& episode, const at::Tensor& now) {
    std::vector<at::Tensor> views;
    for (const auto& view : episode.trajectories) {
      const int64_t cell = index_.trajectories.cell;
      views.push_back(tensor_of(view, {episode.steps, index_.height / cell, index_.width / cell, 2})
                          .index_select(0, now)
                          .permute({0, 3, 1, 2}));
    }
    if (!views.empty()) trajectories_.push_back(at::stack(views, 1));
  }

  void add_actions(const Episode& episode, const at::Tensor& now) {
    const int64_t chunk = model_.settings().action_queries;
    const at::Tensor all = tensor_of(episode.actions, {episode.steps, index_.action_size()});
    const at::Tensor places = now.unsqueeze(1) + at::arange(chunk, at::kLong);
    counted_.push_back(places.lt(episode.steps).to(at::kFloat));
    actions_.push_back(all.index_select(0, places.clamp_max(episode.steps - 1).flatten())
                           .view({now.size(0), chunk, index_.action_size()}));
    previous_.push_back(at::cat({at::zeros({1, index_.action_size()}), all}).index_select(0, now));
  }

  const EpisodeSet& set_;
  const EpisodeIndex& index_;
  const WorldModel& model_;
  int64_t ahead_, samples_ = 0;
  std::vector<at::Tensor> images_, future_, state_, steps_, words_, actions_, counted_, previous_,
      depth_, present_depth_, segmentation_, trajectories_;
  std::vector<int64_t> future_steps_, lengths_;
};

std::vector<int64_t> all_episodes(const EpisodeSet& set) {
  std::vector<int64_t> all(static_cast<size_t>(set.size()));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

}  // namespace

EpisodeWindows::EpisodeWindows(const EpisodeSet& set, int64_t length, Order order)
    : EpisodeWindows(set, length, order, all_episodes(set)) {}

EpisodeWindows::EpisodeWindows(const EpisodeSet& set, int64_t length, Order order,
                               const std::vector<int64_t>& episodes) {
  for (const int64_t episode : episodes) {
    const int64_t steps = set.steps(episode);
    if (order == Order::kEveryStart) {
      const int64_t count = std::max<int64_t>(1, steps - length + 1);
      for (int64_t first = 0; first < count; ++first) windows_.push_back({episode, first});
    } else {
      for (int64_t first = 0; first < steps; first += length) windows_.push_back({episode, first});
    }
  }
}

WindowBatch read_windows(const EpisodeSet& set, const WorldModel& model,
                         const std::vector<EpisodeWindow>& windows, int64_t ahead) {
  BatchBuilder builder(set, model, ahead);
  for (const EpisodeWindow& window : windows) builder.add(window);
  return builder.finish();
}

}  // namespace espalier
