#include "trainer/models/world_layout.h"

#include <algorithm>
#include <numeric>

#include <torch/torch.h>

#include "trainer/errors.h"

namespace espalier {
namespace {

const std::vector<std::string>& all_groups() {
  static const std::vector<std::string> groups = {"text",  "state",    "observation", "dynamic",
                                                  "depth", "semantic", "trajectory",  "action"};
  return groups;
}

int64_t tokens_of(const WorldLayoutOptions& options, const std::string& group) {
  if (group == "text" || group == "state") return 1;
  if (group == "observation") return options.observation;
  if (group == "action") return options.action;
  const auto found = options.dreams.find(group);
  return found == options.dreams.end() ? 0 : found->second;
}

std::vector<std::string> settings_of(const WorldLayoutOptions& options) {
  std::vector<std::string> sets = {"timesteps=" + std::to_string(options.timesteps),
                                   "context=" + std::to_string(options.observation + 2),
                                   "action=" + std::to_string(options.action)};
  for (const std::string& kind : dream_kinds()) {
    sets.push_back("dream." + kind + "=" + std::to_string(tokens_of(options, kind)));
  }
  sets.insert(sets.end(), options.sets.begin(), options.sets.end());
  return sets;
}

}  // namespace

const std::vector<std::string>& dream_kinds() {
  static const std::vector<std::string> kinds = {"dynamic", "depth", "semantic", "trajectory"};
  return kinds;
}

WorldLayout::WorldLayout(WorldLayoutOptions options)
    : options_(std::move(options)),
      file_(read_mask_file(options_.mask, settings_of(options_))),
      layout_(lay_out(file_)) {
  place_groups();
  check_time();
  order_tokens();
}

void WorldLayout::refuse(const std::string& why) const {
  throw ConfigError(options_.asked_by + ".mask = \"" + options_.mask + "\": " + why);
}

void WorldLayout::place_groups() {
  if (file_.description.timesteps != timesteps()) {
    refuse("the mask is laid out for " + std::to_string(file_.description.timesteps) +
           " timesteps, the model for " + std::to_string(timesteps()) + " (timesteps)");
  }
  std::map<std::string, std::vector<int64_t>> rows;
  timestep_.assign(static_cast<size_t>(this->rows()), 0);
  for (const PlacedGroup& placed : layout_.placed) {
    const std::string& name = file_.description.groups[static_cast<size_t>(placed.group)].name;
    const auto& known = all_groups();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      refuse("a world model has no tokens for group \"" + name +
             "\"; it has text, state, observation, dynamic, depth, semantic, trajectory, action");
    }
    if (placed.timestep < 0) refuse("group \"" + name + "\" lies outside of the timesteps");
    for (int64_t i = 0; i < placed.length; ++i) {
      rows[name].push_back(placed.first + i);
      timestep_[static_cast<size_t>(placed.first + i)] = placed.timestep;
    }
  }
  for (const std::string& name : all_groups()) {
    const int64_t wanted = tokens_of(options_, name);
    const auto got = static_cast<int64_t>(rows[name].size());
    if (got != wanted * timesteps()) {
      refuse("group \"" + name + "\" has " + std::to_string(got) + " tokens in " +
             std::to_string(timesteps()) + " timesteps; the model has " + std::to_string(wanted) +
             " in each");
    }
    rows_of_[name] = torch::tensor(rows[name], at::kLong).view({timesteps(), wanted});
  }
}

// Nobody who acts knows what comes later; and steps that pad a short episode stay without effect.
void WorldLayout::check_time() const {
  const auto& groups = layout_.mask.groups();
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const int64_t seen : groups[g].sees) {
      const PlacedGroup& asks = layout_.placed[g];
      const PlacedGroup& other = layout_.placed[static_cast<size_t>(seen)];
      if (other.timestep <= asks.timestep) continue;
      const auto name = [&](const PlacedGroup& placed) {
        return file_.description.groups[static_cast<size_t>(placed.group)].name;
      };
      refuse("group \"" + name(asks) + "\" sees \"" + name(other) +
             "\" of a later timestep, which is not known when the model acts; leave that out "
             "(goal_offset = 0)");
    }
  }
}

void WorldLayout::order_tokens() {
  std::vector<int64_t> token_of_row(timestep_.size());
  int64_t token = 0;
  for (int64_t t = 0; t < timesteps(); ++t) {
    for (const std::string& name : all_groups()) {
      const at::Tensor rows = rows_of_.at(name)[t];
      for (int64_t i = 0; i < rows.numel(); ++i) {
        token_of_row[static_cast<size_t>(rows[i].item<int64_t>())] = token++;
      }
    }
  }
  std::vector<int64_t> same(timestep_.size());
  std::iota(same.begin(), same.end(), 0);
  if (token_of_row != same) token_of_row_ = torch::tensor(token_of_row, at::kLong);
}

const at::Tensor& WorldLayout::token_of_row(at::Device device) const {
  at::Tensor& kept = on_device_[""];
  if (!kept.defined() || kept.device() != device) kept = token_of_row_.to(device);
  return kept;
}

const at::Tensor& WorldLayout::rows_of(const std::string& group, at::Device device) const {
  at::Tensor& kept = on_device_[group];
  if (!kept.defined() || kept.device() != device) kept = rows_of(group).to(device);
  return kept;
}

const WorldLayout::Batch& WorldLayout::batch(int64_t samples, at::Device device) {
  const auto found = batches_.find(samples);
  if (found != batches_.end()) return found->second;
  const at::Tensor timestep = torch::tensor(timestep_, at::kLong).repeat({samples}).to(device);
  return batches_.emplace(samples, Batch{layout_.mask.repeated(samples), timestep}).first->second;
}

}  // namespace espalier
