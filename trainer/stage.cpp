#include "trainer/stage.h"

#include <algorithm>
#include <unordered_map>

#include <torch/torch.h>

#include "data/order/random.h"
#include "trainer/errors.h"
#include "trainer/registry.h"
#include "trainer/update/name_pattern.h"

namespace espalier {
namespace {

std::vector<double> shares_of(const StageConfig& config) {
  std::vector<double> shares;
  for (const ObjectiveConfig& objective : config.objectives) shares.push_back(objective.share);
  return shares;
}

// The split to measure on; "" = the data set has none that may be used. A test split that is
// missing is replaced by the validation split, never the other way round: the test split is not
// looked at while a run trains.
std::string held_out_split(const RunConfig& config, const std::string& name,
                           const std::string& wanted) {
  const DataConfig& data = config.data_named(name, "an objective");
  if (!data.split(wanted).empty()) return wanted;
  return wanted == "test" && !data.validation.empty() ? "validation" : "";
}

}  // namespace

std::string where_of(const ObjectiveContext& context) {
  return "stage." + context.stage.name + ".objectives." + context.objective.name;
}

std::string model_prefix(const std::string& model) { return "model/" + model + "/"; }

std::string objective_prefix(const std::string& model, const std::string& objective) {
  return "objective/" + model + "/" + objective + "/";
}

Stage::Stage(NamedThings& things, const StageConfig& config, bool for_training)
    : things_(things),
      config_(config),
      model_(things.model(config.trains)),
      plan_(shares_of(config), config.slots(), config.micro_batch_size) {
  for (size_t i = 0; i < config.objectives.size(); ++i) {
    const ObjectiveConfig& objective = config.objectives[i];
    const auto seed = static_cast<uint64_t>(things.config().seed);
    objectives_.push_back(
        registry()
            .objective(objective.kind, "stage." + config.name)
            .make({.run = things.config(),
                   .stage = config,
                   .objective = objective,
                   .things = things,
                   .model = model_,
                   .order_seed = objective.share > 0 ? combine_streams(seed, i + 1) : seed,
                   .for_training = for_training}));
  }
  collect_losses();
  collect_groups();
  require_passes();
  freeze();
  split_by_schedule();
}

Stage::~Stage() {
  for (ParameterGroup& group : groups_) {
    for (at::Tensor& parameter : group.parameters) parameter.set_requires_grad(true);
  }
  for (at::Tensor& parameter : frozen_) parameter.set_requires_grad(true);
}

void Stage::require_passes() const {
  if (config_.tokens_per_pass == 0) return;
  for (size_t i = 0; i < objectives_.size(); ++i) {
    if (objectives_[i]->can_split()) continue;
    throw ConfigError("stage." + config_.name +
                      ".tokens_per_pass = " + std::to_string(config_.tokens_per_pass) +
                      ": objective " + config_.objectives[i].name +
                      " takes a micro-batch as a whole; leave it out, or lower micro_batch_size");
  }
}

void Stage::collect_losses() {
  for (size_t i = 0; i < objectives_.size(); ++i) {
    for (const LossSpec& loss : objectives_[i]->loss_specs()) {
      const std::string& objective = config_.objectives[i].name;
      losses_.push_back({loss.name.empty() ? objective : objective + "/" + loss.name, loss.weight,
                         static_cast<int64_t>(i)});
    }
  }
}

int64_t Stage::loss_index(int64_t objective, const std::string& loss) const {
  int64_t index = 0;
  for (const StageLoss& each : losses_) {
    const std::string& name = config_.objectives[static_cast<size_t>(objective)].name;
    if (each.objective == objective && each.name == (loss.empty() ? name : name + "/" + loss)) {
      return index;
    }
    ++index;
  }
  TORCH_CHECK(false, "an objective of stage ", config_.name, " has no loss called \"", loss, "\"");
}

void Stage::collect_groups() {
  groups_ = model_.parameter_groups();
  for (size_t i = 0; i < objectives_.size(); ++i) {
    std::vector<size_t> reached;
    for (const std::string& name : objectives_[i]->parameter_groups_used()) {
      const auto found = std::find_if(groups_.begin(), groups_.end(),
                                      [&](const auto& group) { return group.name == name; });
      TORCH_CHECK(found != groups_.end(), "there is no parameter group ", name);
      reached.push_back(static_cast<size_t>(found - groups_.begin()));
    }
    groups_of_.push_back(std::move(reached));
  }
  for (size_t i = 0; i < objectives_.size(); ++i) {
    for (ParameterGroup& group : objectives_[i]->parameter_groups()) {
      groups_of_[i].push_back(groups_.size());
      groups_.push_back(std::move(group));
    }
  }
  std::unordered_map<const void*, std::string> by_storage;
  for (const auto& [name, tensor] : state()) by_storage[tensor.data_ptr()] = name;
  for (const ParameterGroup& group : groups_) {
    for (const at::Tensor& parameter : group.parameters) {
      const auto found = by_storage.find(parameter.data_ptr());
      TORCH_CHECK(found != by_storage.end(), "a parameter of group ", group.name,
                  " is missing from the state of stage ", config_.name);
      parameter_names_.push_back(found->second);
    }
  }
}

void Stage::require_used(const std::vector<bool>& used, const std::vector<std::string>& patterns,
                         const std::string& setting) const {
  const auto idle = std::find(used.begin(), used.end(), false);
  if (idle == used.end()) return;
  throw ConfigError("stage." + config_.name + "." + setting + ": \"" +
                    patterns[static_cast<size_t>(idle - used.begin())] +
                    "\" fits no parameter of model." + config_.trains);
}

void Stage::freeze() {
  std::vector<bool> used(config_.freeze.size(), false);
  std::vector<std::string> left;
  size_t index = 0, trained = 0;
  for (ParameterGroup& group : groups_) {
    std::vector<at::Tensor> kept;
    for (at::Tensor& parameter : group.parameters) {
      const std::string& full = parameter_names_[index++];
      bool is_frozen = false;
      for (size_t p = 0; p < config_.freeze.size(); ++p) {
        if (fits_parameter(config_.freeze[p], group.name, full)) is_frozen = used[p] = true;
      }
      if (is_frozen) {
        frozen_.push_back(parameter);
        frozen_names_.push_back(full);
        parameter.set_requires_grad(false);
      } else {
        kept.push_back(parameter);
        left.push_back(full);
      }
    }
    trained += kept.size();
    group.parameters = std::move(kept);
  }
  parameter_names_ = std::move(left);
  require_used(used, config_.freeze, "freeze");
  if (trained == 0) {
    throw ConfigError("stage." + config_.name + ".freeze leaves nothing to train of model." +
                      config_.trains);
  }
}

void Stage::split_by_schedule() {
  const std::vector<FreezeSpan> spans =
      parse_freeze_spans(config_.freeze_schedule, "stage." + config_.name + ".freeze_schedule");
  ScheduledGroups cut = cut_by_schedule(groups_, parameter_names_, spans);
  require_used(cut.used, config_.freeze_schedule, "freeze_schedule");
  groups_ = std::move(cut.groups);
  parameter_names_ = std::move(cut.names);
  spans_of_ = std::move(cut.spans);
  for (std::vector<size_t>& reached : groups_of_) {
    std::vector<size_t> now;
    for (const size_t g : reached)
      now.insert(now.end(), cut.became[g].begin(), cut.became[g].end());
    reached = std::move(now);
  }
}

bool Stage::is_frozen(size_t group, int64_t step) const {
  const auto& spans = spans_of_[group];
  return std::any_of(spans.begin(), spans.end(),
                     [&](const FreezeSpan& span) { return span.covers(step); });
}

void Stage::begin_step(int64_t step) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (spans_of_[g].empty()) continue;
    const bool trains = !is_frozen(g, step);
    for (at::Tensor& parameter : groups_[g].parameters) parameter.set_requires_grad(trains);
  }
}

std::vector<bool> Stage::groups_in_step(int64_t step) const {
  std::vector<bool> active(groups_.size(), false);
  const std::vector<bool> runs = plan_.runs_in(step);
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i]) continue;
    for (const size_t group : groups_of_[i]) active[group] = !is_frozen(group, step);
  }
  return active;
}

std::vector<bool> Stage::groups_in_slot(const SlotBatch& batch) const {
  std::vector<bool> used(groups_.size(), false);
  for (const auto& part : batch.parts) {
    for (const size_t group : groups_of_[static_cast<size_t>(part->turn.objective)]) {
      used[group] = !is_frozen(group, part->turn.step);
    }
  }
  return used;
}

double Stage::share_of_step(const StageLoss& loss, int64_t step) const {
  const double expected = plan_.expected_slots(loss.objective);
  return static_cast<double>(plan_.slots_in(loss.objective, step)) / expected;
}

SlotBatch Stage::load(int64_t step, int64_t slot) { return load_turns(plan_.turns(step, slot)); }

std::vector<SlotBatch> Stage::load_passes(int64_t step, int64_t slot) {
  std::vector<SlotBatch> passes;
  cut_into_passes(plan_.turns(step, slot), passes);
  return passes;
}

// What does not fit is loaded again in halves: reading a sample costs little beside training on it,
// and only whoever reads it knows how many tokens it has.
void Stage::cut_into_passes(const std::vector<Turn>& turns, std::vector<SlotBatch>& passes) {
  SlotBatch batch = load_turns(turns);
  double tokens = 0;
  for (const auto& part : batch.parts) tokens += part->positions;
  std::vector<Turn> first, second;
  for (const Turn& turn : turns) {
    Turn& half = first.emplace_back(turn);
    half.samples = (turn.samples + 1) / 2;
    if (half.samples == turn.samples) continue;
    Turn& rest = second.emplace_back(turn);
    rest.samples -= half.samples;
    rest.skipped += half.samples;
  }
  const int64_t most = config_.tokens_per_pass;
  if (most == 0 || tokens <= static_cast<double>(most) || second.empty()) {
    passes.push_back(std::move(batch));
    return;
  }
  cut_into_passes(first, passes);
  cut_into_passes(second, passes);
}

SlotBatch Stage::load_turns(const std::vector<Turn>& turns) {
  SlotBatch batch;
  for (const Turn& turn : turns) {
    batch.parts.push_back(objectives_[static_cast<size_t>(turn.objective)]->load(turn));
    batch.parts.back()->turn = turn;
  }
  std::vector<at::Tensor*> tensors;
  for (const auto& part : batch.parts) {
    for (at::Tensor* tensor : part->tensors()) tensors.push_back(tensor);
  }
  batch.upload = PackedUpload(tensors, things_.device());
  return batch;
}

void Stage::count_targets(const SlotBatch& batch, std::vector<double>& counts) const {
  for (const auto& part : batch.parts) {
    for (const LossCount& count : part->counts) {
      counts.at(static_cast<size_t>(loss_index(part->turn.objective, count.name))) += count.targets;
    }
  }
}

std::vector<at::Tensor> Stage::compute(const SlotBatch& batch) {
  std::vector<at::Tensor> sums(losses_.size());
  for (const auto& part : batch.parts) {
    for (LossTerm& term : objectives_[static_cast<size_t>(part->turn.objective)]->losses(*part)) {
      sums[static_cast<size_t>(loss_index(part->turn.objective, term.name))] = std::move(term.sum);
    }
  }
  return sums;
}

void Stage::after_update(Communicator& comm, int64_t step, const at::Tensor& applies) {
  model_.weights_updated();
  const std::vector<bool> runs = plan_.runs_in(step);  // the same on every rank
  for (size_t i = 0; i < objectives_.size(); ++i) {
    if (runs[i]) objectives_[i]->after_update(comm, applies);
  }
}

void Stage::skip_update() {
  for (const auto& objective : objectives_) objective->skip_update();
}

void Stage::state_changed() {
  model_.state_changed();
  for (const auto& objective : objectives_) objective->state_changed();
}

TensorMap Stage::state() {
  TensorMap all;
  const auto add = [&](const std::string& prefix, const TensorMap& state) {
    for (const auto& [name, tensor] : state) all[prefix + name] = tensor;
  };
  add(model_prefix(config_.trains), model_.state());
  for (size_t i = 0; i < objectives_.size(); ++i) {
    add(objective_prefix(config_.trains, config_.objectives[i].name), objectives_[i]->state());
  }
  return all;
}

TensorMap Stage::averaged_buffers() {
  TensorMap buffers;
  const TensorMap state = model_.state();
  for (const std::string& name : model_.averaged_buffers()) {
    buffers[model_prefix(config_.trains) + name] = state.at(name);
  }
  return buffers;
}

std::vector<Section> Stage::evaluate(EvaluationRequest request,
                                     const std::vector<std::string>& only) {
  const torch::NoGradGuard no_grad;
  const std::string prefix = request.picture_prefix, wanted = request.split;
  std::vector<Section> sections;
  for (size_t i = 0; i < objectives_.size(); ++i) {
    const std::string& name = config_.objectives[i].name;
    if (!only.empty() && std::find(only.begin(), only.end(), name) == only.end()) continue;
    const std::string& data = config_.objectives[i].settings->data;
    request.split = data.empty() ? wanted : held_out_split(things_.config(), data, wanted);
    if (request.split.empty()) continue;
    request.picture_prefix = prefix + name + "-";
    sections.push_back(objectives_[i]->evaluate(request));
  }
  return sections;
}

std::string Stage::data_fingerprint() const {
  std::string all;
  for (const auto& objective : objectives_) {
    const std::string one = objective->data_fingerprint();
    if (one.empty() || all.find(one) != std::string::npos) continue;
    all += (all.empty() ? "" : "+") + one;
  }
  return all;
}

}  // namespace espalier
