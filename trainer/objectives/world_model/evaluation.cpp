#include <torch/torch.h>

#include "trainer/named/spread_indices.h"
#include "trainer/objectives/world_model/closed_loop.h"
#include "trainer/objectives/world_model/open_loop.h"

namespace espalier {

Section WorldModelObjective::evaluate(const EvaluationRequest& request) {
  const torch::NoGradGuard no_gradient;
  const bool is_first = things_.comm().rank() == 0;
  const EpisodeSet& set = things_.episodes(model_.settings().episodes, request.split);
  const std::vector<int64_t> episodes = spread_indices(request.max_samples, set.size());
  const EpisodeWindows windows(set, model_.settings().timesteps, EpisodeWindows::Order::kSideBySide,
                               episodes);
  Section section{.name = name_,
                  .title = "World model: " + name_,
                  .text = "Open loop: " + std::to_string(episodes.size()) + " held-out episodes (" +
                          request.split + ") of " + set.index().name + ", every step of them."};
  if (request.is_final && settings_.rollouts > 0) {
    const ClosedLoop result = run_closed_loop(*this);
    section.text += " Closed loop: the model acts in the simulator.";
    if (is_first) report_closed_loop(*this, result, request, section);
  }
  measure_open_loop(*this, set, windows, training_means(*this), section);
  if (is_first) paint_open_loop(*this, set, windows, request, section);
  return section;
}

}  // namespace espalier
