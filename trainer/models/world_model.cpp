#include "trainer/models/world_model.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "trainer/errors.h"
#include "trainer/models/seeded_start.h"
#include "trainer/named/named_things.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

constexpr uint64_t kWeightSeed = 0x776f726c642d69ULL;  // keys the initial weights

std::string where_of(const std::string& name) { return "model." + name; }

at::Tensor row_of(const std::vector<float>& values) { return torch::tensor(values, at::kFloat); }

// The group of a parameter, by the name of its module.
std::string group_of(const std::string& parameter) {
  const std::string module = parameter.substr(0, parameter.find('.'));
  if (module.starts_with("dream_") && module != "dream_queries") return "dream." + module.substr(6);
  return module == "action_direct" || module == "action_diffusion" ? "action" : "trunk";
}

}  // namespace

WorldModel::WorldModel(const ModelConfig& config, NamedThings& things)
    : settings_(settings_as<WorldModelSettings>(config.settings)),
      name_(config.name),
      device_(things.device()),
      index_(things.episode_index(settings_.episodes)),
      layout_(settings_.layout_options(settings_.network_options(index_, where_of(name_)),
                                       where_of(name_))) {
  const SeededStart seeded(static_cast<uint64_t>(things.config().seed) ^ kWeightSeed);
  network_ = WorldNetwork(settings_.network_options(index_, where_of(name_)),
                          row_of(index_.state_mean), row_of(index_.state_std));
  network_->to(device_);
}

std::vector<ParameterGroup> WorldModel::parameter_groups() {
  std::vector<ParameterGroup> groups = {{"trunk", {}}};
  for (const DreamOptions& dream : network_->options().dreams) {
    groups.push_back({"dream." + dream.kind, {}});
  }
  groups.push_back({"action", {}});
  for (const auto& item : network_->named_parameters()) {
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const ParameterGroup& each) {
      return each.name == group_of(item.key());
    });
    group->parameters.push_back(item.value());
  }
  return groups;
}

TensorMap WorldModel::state() {
  TensorMap state;
  for (const auto& item : network_->named_parameters()) state[item.key()] = item.value();
  for (const auto& item : network_->named_buffers()) state[item.key()] = item.value();
  return state;
}

void WorldModel::weights_updated() {
  for (const auto& module : network_->modules()) {
    if (auto* linear = module->as<LinearImpl>()) linear->forget_cached_weight();
  }
}

std::pair<at::Tensor, int64_t> WorldModel::encode(const std::string& instruction) const {
  at::Tensor ids = at::zeros({settings_.max_words}, at::kLong);
  std::istringstream stream(instruction);
  int64_t count = 0;
  for (std::string word; stream >> word; ++count) {
    if (count == settings_.max_words) {
      throw ConfigError("the instruction \"" + instruction.substr(0, 60) +
                        "\" has more than model." + name_ +
                        ".max_words = " + std::to_string(settings_.max_words) + " words; raise it");
    }
    for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto found = std::lower_bound(index_.words.begin(), index_.words.end(), word);
    if (found == index_.words.end() || *found != word) continue;
    ids[count] = static_cast<int64_t>(found - index_.words.begin()) + 1;
  }
  return {ids, std::max<int64_t>(count, 1)};
}

at::Tensor WorldModel::act(const at::Tensor& action_rows, const at::Tensor& noise) {
  const torch::NoGradGuard no_gradient;
  at::Tensor actions;
  if (has_diffusion()) {
    const bool is_flow = network_->diffusion->options().target == DiffusionTarget::kFlow;
    actions = network_->diffusion->sample(
        action_rows, noise.to(device_),
        {.steps = settings_.sampling_steps, .guidance = is_flow ? 1.0 : settings_.guidance});
  } else {
    actions = as_residual(network_->direct->forward(action_rows.flatten(0, 1)))
                  .view({action_rows.size(0), action_rows.size(1), -1});
  }
  return is_discrete() ? actions : actions.clamp(-1.0, 1.0);
}

void add_world_model(Registry& registry) {
  registry.add(ModelKind{
      .name = "world_model",
      .help = "Words, state and images of the last steps, queries that dream of the next ones, and "
              "actions by diffusion, in a trunk whose blocks see what a mask file says (DreamVLA).",
      .make_settings = [] { return std::make_shared<WorldModelSettings>(); },
      .make = [](const ModelConfig& config,
                 NamedThings& things) { return std::make_unique<WorldModel>(config, things); },
      .least_numbers =
          [](const ModelConfig& config) {
            return settings_as<WorldModelSettings>(config.settings).least_numbers();
          }});
}

}  // namespace espalier
