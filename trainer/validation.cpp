#include "trainer/validation.h"

#include <algorithm>

#include <torch/torch.h>

#include "data/order/random.h"
#include "trainer/checkpoint/saved_state.h"
#include "trainer/host/collective_text.h"
#include "trainer/registry.h"
#include "trainer/update/precision.h"

namespace espalier {
namespace {

const std::string kPrefix = "validation/";

bool has_validation(const RunConfig& config, const ObjectiveConfig& objective) {
  const std::string& data = objective.settings->data;
  return data.empty() || !config.data_named(data, "an objective").validation.empty();
}

}  // namespace

Validation::Validation(NamedThings& things, Stage& stage) : things_(things), stage_(stage) {
  const StageConfig& config = stage.config();
  const auto seed = static_cast<uint64_t>(things.config().seed);
  for (size_t i = 0; i < config.objectives.size(); ++i) {
    const ObjectiveConfig& objective = config.objectives[i];
    if (!has_validation(things.config(), objective)) continue;
    auto measured = registry()
                        .objective(objective.kind, "stage." + config.name)
                        .make({.run = things.config(),
                               .stage = config,
                               .objective = objective,
                               .things = things,
                               .model = things.model(config.trains),
                               .order_seed = combine_streams(seed, i + 1),
                               .split = "validation"});
    if (measured->split_size() == 0) continue;
    parts_.push_back({static_cast<int64_t>(i), std::move(measured)});
  }
}

Validation::~Validation() = default;

std::vector<std::string> Validation::names() const {
  std::vector<std::string> names = {kPrefix + "total"};
  for (const StageLoss& loss : stage_.losses()) {
    for (const Part& part : parts_) {
      if (part.objective == loss.objective) names.push_back(kPrefix + loss.name);
    }
  }
  return names;
}

// Heads and means that belong to the objective that trains.
void Validation::take_over_state() {
  const StageConfig& config = stage_.config();
  const TensorMap trained = stage_.state();
  for (const Part& part : parts_) {
    const std::string& name = config.objectives[static_cast<size_t>(part.objective)].name;
    const TensorMap own = below(trained, objective_prefix(config.trains, name));
    for (auto& [key, tensor] : part.measured->state()) tensor.detach().copy_(own.at(key));
    part.measured->state_changed();
  }
}

std::vector<Turn> Validation::turns(const Part& part, int64_t max_samples) const {
  const int64_t size = part.measured->split_size(), samples = stage_.config().micro_batch_size;
  const int64_t wanted = max_samples == 0 ? size : std::min(max_samples, size);
  std::vector<Turn> turns;
  for (int64_t t = 0; t * samples < wanted; ++t) {
    turns.push_back({.objective = part.objective,
                     .step = t,
                     .slot_number = t,
                     .earlier = t,
                     .in_step = 1,
                     .samples = samples,
                     .of_slot = samples});
  }
  return turns;
}

size_t Validation::loss_index(const Part& part, const std::string& loss) const {
  const std::string& name = stage_.config().objectives[static_cast<size_t>(part.objective)].name;
  const std::string full = loss.empty() ? name : name + "/" + loss;
  for (size_t i = 0; i < stage_.losses().size(); ++i) {
    if (stage_.losses()[i].name == full) return i;
  }
  TORCH_CHECK(false, "there is no loss ", full);
}

void Validation::measure_turn(const Part& part, const Turn& turn, double* sums, double* targets) {
  SlotBatch slot;
  slot.parts.push_back(part.measured->load(turn));
  ObjectiveBatch& batch = *slot.parts.front();
  batch.turn = turn;
  slot.upload = PackedUpload(batch.tensors(), things_.device());
  slot.upload.send();
  const PrecisionGuard guard(things_.device().type(), stage_.config().precision);
  for (const LossTerm& term : part.measured->losses(batch)) {
    if (term.sum.defined()) sums[loss_index(part, term.name)] = term.sum.item<double>();
  }
  for (const LossCount& count : batch.counts) targets[loss_index(part, count.name)] = count.targets;
  part.measured->skip_update();  // statistics for an update that will not come
}

std::map<std::string, double> Validation::measure(int64_t max_samples) {
  const torch::NoGradGuard no_grad;
  take_over_state();
  std::vector<std::pair<const Part*, Turn>> all;
  for (const Part& part : parts_) {
    for (const Turn& turn : turns(part, max_samples)) all.emplace_back(&part, turn);
  }
  const std::vector<StageLoss>& losses = stage_.losses();
  const auto count = static_cast<int64_t>(losses.size());
  Communicator& comm = things_.comm();
  // A row per turn, filled by one rank: the sum over ranks adds zeros, and rows add up in one
  // order.
  at::Tensor rows = torch::zeros({std::ssize(all), 2 * count}, at::kDouble);
  for (int64_t t = comm.rank(); t < std::ssize(all); t += comm.size()) {
    auto* row = rows[t].mutable_data_ptr<double>();
    measure_turn(*all[static_cast<size_t>(t)].first, all[static_cast<size_t>(t)].second, row,
                 row + count);
  }
  at::Tensor shared = rows.to(communication_device(comm));
  comm.all_reduce(shared)->wait();
  rows = shared.to(at::kCPU);
  std::map<std::string, double> means;
  double total = 0;
  for (int64_t i = 0; i < count; ++i) {
    double sum = 0, targets = 0;
    for (int64_t t = 0; t < std::ssize(all); ++t) {
      sum += rows[t][i].item<double>();
      targets += rows[t][count + i].item<double>();
    }
    if (targets <= 0) continue;
    const StageLoss& loss = losses[static_cast<size_t>(i)];
    means[kPrefix + loss.name] = sum / targets;
    total += loss.weight * sum / targets;
  }
  if (!means.empty()) means[kPrefix + "total"] = total;
  return means;
}

}  // namespace espalier
