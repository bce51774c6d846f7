#include "trainer/objectives/world_model/policy.h"

#include <cmath>

#include <torch/torch.h>

#include "data/digest_text.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

// Nothing else of a run uses these.
constexpr uint64_t kPolicyStream = 0x776f726c642d70ULL, kChoiceStream = 0x776f726c642d63ULL;
constexpr double kOlderWeighsLess = 0.1;  // weight exp(-0.1 age) of a chunk

}  // namespace

WorldPolicy::WorldPolicy(WorldModel& model, uint64_t seed, Options options)
    : model_(model), seed_(seed), options_(std::move(options)) {}

void WorldPolicy::start(const std::vector<std::string>& instructions,
                        const std::vector<int64_t>& seeds) {
  seeds_ = seeds;
  lengths_.clear();
  observed_.clear();
  states_.clear();
  chunks_.clear();
  shown_.assign(seeds.size(), {});
  time_ = 0;
  std::vector<at::Tensor> words;
  for (const std::string& instruction : instructions) {
    const auto [ids, length] = model_.encode(instruction);
    words.push_back(ids);
    lengths_.push_back(length);
  }
  words_ = at::stack(words);
}

// Steps 0 .. n-1 of each window; those after them do not exist.
WorldInputs WorldPolicy::inputs(const at::Tensor& active) const {
  const auto seen = std::ssize(observed_), count = active.size(0);
  const auto recent = [&](const std::vector<at::Tensor>& all) {
    return at::stack(all, 1).index_select(0, active).flatten(0, 1);
  };
  WorldInputs result{
      .images = {},
      .observed = recent(observed_),
      .state = recent(states_),
      .steps = (at::arange(count, at::kLong).unsqueeze(1) * model_.settings().timesteps +
                at::arange(seen, at::kLong))
                   .flatten(),
      .words = words_.index_select(0, active),
      .lengths = {}};
  for (int64_t i = 0; i < count; ++i) {
    result.lengths.push_back(lengths_[static_cast<size_t>(active[i].item<int64_t>())]);
  }
  return result.to(model_.device());
}

CounterRng WorldPolicy::random(int64_t environment, uint64_t stream) const {
  const auto episode = static_cast<uint64_t>(seeds_[static_cast<size_t>(environment)]);
  return {seed_, combine_streams(stream, combine_streams(episode, static_cast<uint64_t>(time_)))};
}

at::Tensor WorldPolicy::noise(const std::vector<int64_t>& active) const {
  const int64_t chunk = model_.settings().action_queries, size = model_.index().action_size();
  at::Tensor all = at::empty({std::ssize(active), chunk, size});
  auto* value = all.mutable_data_ptr<float>();
  for (const int64_t e : active) {
    CounterRng draws = random(e, kPolicyStream);
    for (int64_t i = 0; i < chunk * size; ++i) *value++ = static_cast<float>(draws.normal());
  }
  return all;
}

// The largest entry of a row is taken: with Gumbel noise that is a draw from the softmax.
at::Tensor WorldPolicy::by_chance(const at::Tensor& logits, const Observation& observation,
                                  const std::vector<int64_t>& active) {
  if (model_.has_diffusion() || !model_.is_discrete() || options_.temperature == 0) return logits;
  at::Tensor noisy = logits.clone();
  auto* value = noisy.mutable_data_ptr<float>();
  for (const int64_t e : active) {
    const at::Tensor frames = observation.images[e].contiguous();
    const int64_t times = ++shown_[static_cast<size_t>(e)][digest_text(
        XXH3_128bits(frames.const_data_ptr<uint8_t>(), static_cast<size_t>(frames.numel())))];
    const double temperature = options_.temperature * static_cast<double>(times);
    CounterRng draws = random(e, kChoiceStream);
    for (int64_t a = 0; a < noisy.size(1); ++a, ++value) {
      const double gumbel = -std::log(-std::log(draws.uniform()));
      *value = static_cast<float>(*value / temperature + gumbel);
    }
  }
  return noisy;
}

// (E, T, A) -> (E, A): what the latest chunk says about now, or the mean over chunks of what they
// said about it.
at::Tensor WorldPolicy::blend(const at::Tensor& chunks) {
  if (!options_.ensemble) return chunks.select(1, 0);
  chunks_.insert(chunks_.begin(), chunks);
  if (std::ssize(chunks_) > chunks.size(1)) chunks_.pop_back();
  at::Tensor sum = at::zeros_like(chunks.select(1, 0));
  double weights = 0;
  for (size_t age = 0; age < chunks_.size(); ++age) {
    const double weight = std::exp(-kOlderWeighsLess * static_cast<double>(age));
    sum += chunks_[age].select(1, static_cast<int64_t>(age)) * weight;
    weights += weight;
  }
  return sum / weights;
}

WorldPolicy::Answer WorldPolicy::act(const Observation& observation,
                                     const std::vector<int64_t>& active) {
  const torch::NoGradGuard no_gradient;
  const PrecisionGuard guard(model_.device().type(), options_.precision);
  WorldNetwork& network = model_.network();
  const at::Tensor rows = torch::tensor(active, at::kLong);
  // What has ended is not looked at any more.
  const at::Tensor seen = network->observe(
      observation.images.index_select(0, rows).permute({0, 1, 4, 2, 3}).to(model_.device()));
  at::Tensor all = at::zeros({std::ssize(seeds_), seen.size(1), seen.size(2)});
  observed_.push_back(all.index_copy_(0, rows, seen.cpu()));
  states_.push_back(observation.state);
  if (std::ssize(observed_) > model_.settings().timesteps) {
    observed_.erase(observed_.begin());
    states_.erase(states_.begin());
  }
  WorldInputs given = inputs(rows);
  const at::Tensor hidden = network->hidden(given, model_.layout());
  given.steps = given.steps.view({rows.size(0), -1}).select(1, std::ssize(observed_) - 1);
  const at::Tensor drawn =
      model_.act(network->action_rows(hidden, given, model_.layout()), noise(active)).cpu();
  const int64_t environments = std::ssize(seeds_);
  at::Tensor chunks = at::zeros({environments, drawn.size(1), drawn.size(2)});
  chunks.index_copy_(0, rows, drawn);
  Answer answer{.actions = at::zeros({environments, drawn.size(2)}), .dreamt = {}};
  answer.actions.index_copy_(0, rows,
                             by_chance(blend(chunks).index_select(0, rows), observation, active));
  const auto& dreams = network->options().dreams;
  if (!dreams.empty() && dreams.front().kind == "dynamic") {
    const at::Tensor dreamt = network->dream(hidden, given, model_.layout(), 0).cpu();
    answer.dreamt = at::zeros({environments, dreams.front().views, dreamt.size(1), dreamt.size(2)});
    answer.dreamt.index_copy_(
        0, rows, dreamt.view({rows.size(0), dreams.front().views, dreamt.size(1), dreamt.size(2)}));
  }
  ++time_;
  return answer;
}

}  // namespace espalier
