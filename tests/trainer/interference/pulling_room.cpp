#include "pulling_room.h"

#include <cmath>
#include <sstream>
#include <stdexcept>

#include <torch/torch.h>

#include "../toy_room.h"
#include "trainer/models/model.h"
#include "trainer/named/named_things.h"
#include "trainer/objectives/objective.h"
#include "trainer/record/metrics.h"

namespace espalier {
namespace {

constexpr int64_t kSide = 3;  // of the matrices: directions are their first numbers

struct PulledSettings : KindSettings {
  int64_t layers = 1;
  void declare(SettingsScope scope) override {
    scope.add("layers", layers, {.help = "Layers of the stack.", .min = 1, .max = 16});
  }
};

class PulledModel : public Model {
 public:
  PulledModel(const ModelConfig& config, NamedThings& /*things*/) {
    const int64_t layers = settings_as<PulledSettings>(config.settings).layers;
    for (int64_t i = 0; i < layers; ++i) {
      const std::string layer = "trunk." + std::to_string(i);
      add(layer + ".first.weight", {kSide, kSide});
      add(layer + ".second.weight", {kSide, kSide});
      add(layer + ".norm.weight", {kSide});
    }
    left_ = torch::ones({kSide}).requires_grad_();
    right_ = torch::ones({kSide}).requires_grad_();
  }
  std::vector<ParameterGroup> parameter_groups() override {
    return {{"trunk", trunk}, {"left", {left_}}, {"right", {right_}}};
  }
  TensorMap state() override {
    TensorMap state = {{"left.weight", left_}, {"right.weight", right_}};
    for (size_t i = 0; i < trunk.size(); ++i) state[names_[i]] = trunk[i];
    return state;
  }
  const at::Tensor& branch(const std::string& name) const {
    return name == "left" ? left_ : right_;
  }

  std::vector<at::Tensor> trunk;  // three parameters of each layer

 private:
  void add(const std::string& name, std::vector<int64_t> shape) {
    names_.push_back(name);
    trunk.push_back(torch::ones(shape).requires_grad_());
  }

  std::vector<std::string> names_;
  at::Tensor left_, right_;
};

struct PullSettings : ObjectiveSettings {
  std::string branch = "left";
  std::vector<double> cosines;
  double half_cosine = 1;
  double weight = 1;

  void declare(SettingsScope scope) override {
    scope.add("branch", branch, {.help = "Branch.", .choices = {"left", "right"}});
    scope.add("cosines", cosines, {.help = "Cosine to the first direction, by layer."});
    scope.add("half_cosine", half_cosine, {.help = "Between the halves.", .min = -1, .max = 1});
    scope.add("weight", weight, {.help = "Of the loss.", .min = 0, .max = 10});
  }
  std::string branch_name() const override { return branch; }
  std::string branch_predicts() const override { return "numbers"; }
};

class PullObjective : public Objective {
 public:
  explicit PullObjective(const ObjectiveContext& context)
      : settings_(settings_as<PullSettings>(context.objective.settings)),
        model_(dynamic_cast<PulledModel&>(context.model)) {}

  std::vector<LossSpec> loss_specs() const override { return {{"", settings_.weight}}; }
  std::vector<std::string> parameter_groups_used() const override {
    return {"trunk", settings_.branch};
  }
  std::unique_ptr<ObjectiveBatch> load(const Turn& turn) override {
    auto batch = std::make_unique<ObjectiveBatch>();
    batch->counts = {{"", static_cast<double>(turn.samples)}};
    return batch;
  }
  std::vector<LossTerm> losses(const ObjectiveBatch& batch) override {
    const bool is_turned = batch.turn.earlier % 2 == 1;
    at::Tensor sum = model_.branch(settings_.branch).sum();
    for (size_t i = 0; i < model_.trunk.size(); ++i) {
      const double cosine = settings_.cosines.at(i / 3);
      double first = cosine, second = std::sqrt(1 - cosine * cosine), own = 0;
      if (is_turned) {
        first *= settings_.half_cosine;
        second *= settings_.half_cosine;
        own = std::sqrt(1 - settings_.half_cosine * settings_.half_cosine);
      }
      // A direction of its own only where there is room for one of each branch.
      const at::Tensor numbers = model_.trunk[i].flatten();
      sum = sum + numbers[0] * first + numbers[1] * second;
      if (numbers.numel() > kSide) sum = sum + numbers[is_left() ? 2 : 3] * own;
    }
    return {{"", sum * static_cast<double>(batch.turn.samples)}};
  }
  Section evaluate(const EvaluationRequest& /*request*/) override {
    return {.name = "pull", .title = "Pull", .text = "A pull."};
  }

 private:
  bool is_left() const { return settings_.branch == "left"; }

  const PullSettings& settings_;
  PulledModel& model_;
};

}  // namespace

void add_pulling(Registry& registry) {
  registry.add(ModelKind{
      .name = "pulled",
      .help = "A stack of layers.",
      .make_settings = [] { return std::make_shared<PulledSettings>(); },
      .make = [](const ModelConfig& config,
                 NamedThings& things) { return std::make_unique<PulledModel>(config, things); },
      .branches =
          [](const ModelConfig&) {
            return std::vector<BranchInfo>{{"left", "numbers"}, {"right", "numbers"}};
          }});
  registry.add(ObjectiveKind{.name = "pull",
                             .help = "A linear loss.",
                             .trains = "pulled",
                             .make_settings = [] { return std::make_shared<PullSettings>(); },
                             .make =
                                 [](const ObjectiveContext& context) {
                                   return std::make_unique<PullObjective>(context);
                                 }});
}

std::string pulling_toml(const std::string& directory, int64_t steps,
                         const std::vector<Pull>& pulls) {
  std::ostringstream text;
  text << "seed = 1\n[run]\ndirectory = \"" << directory << "\"\n[model.m]\nkind = \"pulled\"\n"
       << "layers = " << pulls.at(0).cosines.size() << "\n[log]\ntensorboard = false\n"
       << "[interference]\nevery_steps = 2\nbudget = 1.0\n"
       << "[compute]\ndevice = \"cpu\"\nthreads_per_rank = 1\n"
       << "[[stage]]\nname = \"pulling\"\ntrains = \"m\"\nsteps = " << steps
       << "\nbatch_size = 12\nmicro_batch_size = 2\n[stage.optimizer]\nwarmup_steps = 0\n";
  for (const Pull& pull : pulls) {
    text << "[[stage.objectives]]\nkind = \"pull\"\nname = \"" << pull.name << "\"\nbranch = \""
         << pull.branch << "\"\nshare = " << pull.share << "\nweight = " << pull.weight
         << "\nhalf_cosine = " << pull.half_cosine
         << "\ncosines = " << nlohmann::json(pull.cosines).dump() << "\n";
  }
  return text.str();
}

std::vector<InterferenceRecord> train_pulling(const std::string& directory, int64_t steps,
                                              const std::vector<Pull>& pulls, int world,
                                              const std::vector<std::string>& sets) {
  const RunConfig config =
      load_run_config(write_config(pulling_toml(directory, steps, pulls)), sets);
  train_toy(config, world);
  return read_interference(directory);
}

std::vector<InterferenceRecord> read_interference(const std::string& directory) {
  std::vector<InterferenceRecord> records;
  for (const auto& line : read_by_step(interference_path(directory))) {
    records.push_back(interference_record_from_json(line));
  }
  return records;
}

const PlaceMeasure& at_place(const InterferenceRecord& record, const ParameterPlace& place) {
  for (const PlaceMeasure& measure : record.places) {
    if (measure.place == place) return measure;
  }
  throw std::runtime_error("nothing was measured at " + text_of(place));
}

}  // namespace espalier
