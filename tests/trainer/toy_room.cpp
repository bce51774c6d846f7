#include "toy_room.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <sstream>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "data/order/random.h"
#include "trainer/checkpoint/checkpoint_loader.h"
#include "trainer/models/model.h"
#include "trainer/named/named_things.h"
#include "trainer/objectives/objective.h"
#include "trainer/record/evaluation_files.h"

namespace espalier {
namespace {

constexpr uint64_t kWeights = 1;
constexpr uint64_t kInputs = 2;
constexpr uint64_t kDropout = 3;

at::Tensor normal(std::vector<int64_t> shape, uint64_t seed, uint64_t stream) {
  at::Tensor tensor = torch::empty(shape);
  CounterRng random(seed, stream);
  float* values = tensor.data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) values[i] = static_cast<float>(random.normal());
  return tensor;
}

struct ToyModelSettings : KindSettings {
  int64_t width = 8;
  void declare(SettingsScope scope) override {
    scope.add("width", width, {.help = "Hidden units of the toy.", .min = 1, .max = 100});
  }
};

class ToyModel : public Model {
 public:
  ToyModel(const ModelConfig& config, NamedThings& things)
      : width(settings_as<ToyModelSettings>(config.settings).width) {
    const auto seed = static_cast<uint64_t>(things.config().seed);
    const uint64_t stream = combine_streams(kWeights, config.name == "one" ? 0 : 1);
    const auto weights = [&](std::vector<int64_t> shape, uint64_t number) {
      const at::Tensor values = normal(std::move(shape), seed, combine_streams(stream, number));
      return (values * 0.5).to(things.device()).detach().requires_grad_();
    };
    trunk = weights({width, 4}, 1);
    trunk_bias = torch::zeros({width}, things.device()).requires_grad_();
    left = weights({1, width}, 2);
    right = weights({1, width}, 3);
  }
  std::vector<ParameterGroup> parameter_groups() override {
    return {{"trunk", {trunk, trunk_bias}}, {"left", {left}}, {"right", {right}}};
  }
  TensorMap state() override {
    return {{"trunk.weight", trunk},
            {"trunk.bias", trunk_bias},
            {"left.weight", left},
            {"right.weight", right}};
  }

  int64_t width;
  at::Tensor trunk, trunk_bias, left, right;
};

struct ToySettings : ObjectiveSettings {
  std::string branch = "left";
  double weight = 1.0;
  std::vector<int64_t> bad_steps;
  int64_t broken_state_at = -1;
  int64_t dies_at = -1;

  void declare(SettingsScope scope) override {
    scope.add("branch", branch, {.help = "Branch of the toy.", .choices = {"left", "right"}});
    scope.add("weight", weight, {.help = "Weight of the loss.", .min = 0, .max = 10});
    scope.add("bad_steps", bad_steps, {.help = "Steps without a finite loss."});
    scope.add("broken_state_at", broken_state_at, {.help = "Step after which a mean is nan."});
    scope.add("dies_at", dies_at, {.help = "Step in which the loss throws."});
  }
  std::string branch_name() const override { return branch; }
  std::string branch_predicts() const override { return "numbers"; }
};

struct ToyBatch : ObjectiveBatch {
  at::Tensor x, y, keep;
  std::vector<at::Tensor*> tensors() override { return {&x, &y, &keep}; }
};

class ToyRegression : public Objective {
 public:
  explicit ToyRegression(const ObjectiveContext& context)
      : settings_(settings_as<ToySettings>(context.objective.settings)),
        name_(context.objective.name),
        things_(context.things),
        model_(dynamic_cast<ToyModel&>(context.model)),
        seed_(static_cast<uint64_t>(context.run.seed)),
        is_measured_(context.is_measured()),
        mean_(torch::zeros({model_.width}, things_.device())),
        gathered_(torch::zeros({model_.width}, things_.device())) {}

  std::vector<LossSpec> loss_specs() const override { return {{"", settings_.weight}}; }
  std::vector<std::string> parameter_groups_used() const override {
    return {"trunk", settings_.branch};
  }
  std::unique_ptr<ObjectiveBatch> load(const Turn& turn) override {
    auto batch = std::make_unique<ToyBatch>();
    // Targets are counted, not samples: the slots of a step weigh differently.
    const int64_t valid = 1 + turn.slot % turn.samples;
    batch->counts = {{"", static_cast<double>(valid)}};
    batch->positions = static_cast<double>(valid);
    const auto position = static_cast<uint64_t>(turn.slot_number) + (is_measured_ ? 1000000 : 0);
    batch->x = normal({valid, 4}, seed_, combine_streams(kInputs, position));
    batch->y = (batch->x.sum(1, true) * (is_left() ? 1.0 : -0.5)).sin();
    batch->keep = normal({valid, model_.width}, seed_, combine_streams(kDropout, position)) > -1.0;
    return batch;
  }
  std::vector<LossTerm> losses(const ObjectiveBatch& base) override {
    const auto& batch = static_cast<const ToyBatch&>(base);
    if (batch.turn.step == settings_.dies_at) throw std::runtime_error("the process dies here");
    const at::Device device = things_.device();
    at::Tensor hidden =
        torch::tanh(torch::linear(batch.x.to(device), model_.trunk, model_.trunk_bias));
    gathered_ += hidden.detach().to(at::kFloat).sum(0);
    const at::Tensor out =
        torch::linear(hidden * batch.keep.to(device), is_left() ? model_.left : model_.right);
    at::Tensor loss = (out.to(at::kFloat) - batch.y.to(device)).square().sum();
    const auto& bad = settings_.bad_steps;
    if (batch.turn.slot == 0 && std::count(bad.begin(), bad.end(), batch.turn.step) > 0) {
      loss = loss + std::numeric_limits<float>::infinity();
    }
    return {{"", loss}};
  }
  TensorMap state() override { return {{"mean", mean_}}; }
  void after_update(Communicator& comm, const at::Tensor& applies) override {
    comm.all_reduce(gathered_)->wait();
    const at::Tensor mean = mean_.mul(0.9).add_(gathered_, 0.1);
    mean_.copy_(applies.defined() ? at::where(applies, mean, mean_) : mean);
    gathered_.zero_();
    if (++updates_ == settings_.broken_state_at) {
      mean_[0] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  void skip_update() override { gathered_.zero_(); }
  Section evaluate(const EvaluationRequest& request) override {
    Section section{.name = name_, .title = "Toy regression", .text = "A toy."};
    section.metrics.push_back({.name = "trunk_norm",
                               .label = "norm of the trunk",
                               .value = model_.trunk.norm().item<double>(),
                               .is_headline = true,
                               .baselines = {{"nothing", 0.0}}});
    if (things_.comm().rank() != 0) return section;
    const std::string picture = request.directory + "/" + request.picture_prefix + "grey.png";
    save_picture(picture, Image{2, 2, std::vector<uint8_t>(12, 200)});
    section.pictures.push_back({"grey", picture, "Two pixels by two."});
    return section;
  }
  std::string data_fingerprint() const override { return "toy"; }
  int64_t split_size() const override { return 10; }

 private:
  bool is_left() const { return settings_.branch == "left"; }

  const ToySettings& settings_;
  const std::string name_;
  NamedThings& things_;
  ToyModel& model_;
  uint64_t seed_;
  bool is_measured_;
  int64_t updates_ = 0;
  at::Tensor mean_, gathered_;
};

class TestObserver : public RunObserver {
 public:
  TestObserver(ToyResult& result, std::mutex& mutex, bool is_first, int64_t stop_after)
      : result_(result), mutex_(mutex), is_first_(is_first), stop_after_(stop_after) {}
  void on_step(const StepReport& report) override {
    if (!is_first_) return;
    const std::lock_guard lock(mutex_);
    result_.losses[report.global_step] = report.total_loss;
  }
  // Asked before every step.
  bool stop_requested() override { return stop_after_ >= 0 && steps_++ >= stop_after_; }

 private:
  ToyResult& result_;
  std::mutex& mutex_;
  bool is_first_;
  int64_t stop_after_;
  int64_t steps_ = 0;
};

std::string toy_stage(const std::string& name, const std::string& model, int64_t steps,
                      const ToyOptions& options, bool dies) {
  std::ostringstream text;
  text << "[[stage]]\nname = \"" << name << "\"\ntrains = \"" << model << "\"\nsteps = " << steps
       << "\nbatch_size = 12\nmicro_batch_size = 2\nema_decay = 0.9\n"
       << "[stage.optimizer]\nwarmup_steps = 2\nlearning_rate = 0.01\n";
  // The right branch gets one slot of twelve: every other step does without it.
  for (const char* branch : {"left", "right"}) {
    const bool is_left = branch == std::string("left");
    text << "[[stage.objectives]]\nkind = \"toy_regression\"\nname = \"" << branch
         << "\"\nbranch = \"" << branch << "\"\nshare = " << (is_left ? 11 : 1)
         << "\nweight = " << (is_left ? 1.0 : 0.5)
         << "\nbad_steps = " << nlohmann::json(options.bad_steps).dump()
         << "\nbroken_state_at = " << options.broken_state_at << "\n";
    if (dies) text << "dies_at = " << options.dies_at << "\n";
  }
  return text.str();
}

}  // namespace

void add_toy(Registry& registry) {
  registry.add(ModelKind{
      .name = "toy",
      .help = "A trunk and two branches.",
      .make_settings = [] { return std::make_shared<ToyModelSettings>(); },
      .make = [](const ModelConfig& config,
                 NamedThings& things) { return std::make_unique<ToyModel>(config, things); },
      .branches =
          [](const ModelConfig&) {
            return std::vector<BranchInfo>{{"left", "numbers"}, {"right", "numbers"}};
          }});
  registry.add(ObjectiveKind{.name = "toy_regression",
                             .help = "Regression of a sine.",
                             .trains = "toy",
                             .make_settings = [] { return std::make_shared<ToySettings>(); },
                             .make =
                                 [](const ObjectiveContext& context) {
                                   return std::make_unique<ToyRegression>(context);
                                 }});
}

std::string toy_toml(const std::string& directory, int64_t steps, const ToyOptions& options) {
  std::ostringstream text;
  text << "seed = 5\n[run]\ndirectory = \"" << directory << "\"\n";
  for (const char* model : {"one", "two"}) {
    text << "[model." << model << "]\nkind = \"toy\"\nwidth = " << options.width << "\n";
  }
  text << "[checkpoint]\nevery_steps = 4\n[log]\nevery_steps = 1\n"
          "[compute]\ndevice = \"cpu\"\nthreads_per_rank = 1\nbucket_mib = 0.001\n"
       << toy_stage("first", "one", steps, options, false)
       << toy_stage("second", "two", steps, options, true);
  return text.str();
}

RunConfig toy_config(const std::string& directory, int64_t steps, const ToyOptions& options,
                     const std::vector<std::string>& sets) {
  RunConfig config = load_run_config(write_config(toy_toml(directory, steps, options)), sets);
  // Faults are of a process, not of the settings that a run is made with.
  for (auto item = config.values.begin(); item != config.values.end();) {
    const std::string name = item.key().substr(item.key().rfind('.') + 1);
    const bool is_fault = name == "dies_at" || name == "bad_steps" || name == "broken_state_at";
    item = is_fault ? config.values.erase(item) : std::next(item);
  }
  return config;
}

ToyResult train_toy(const RunConfig& config, int world, int64_t stop_after,
                    const RunOptions& options) {
  ToyResult result;
  std::mutex mutex;
  run_ranks(world, [&](Communicator& comm) {
    const bool asks = comm.rank() == world - 1;
    TestObserver observer(result, mutex, comm.rank() == 0, asks ? stop_after : -1);
    const RunOutcome outcome = run_training(config, comm, observer, options);
    if (comm.rank() == 0) result.outcome = outcome;
  });
  return result;
}

std::vector<nlohmann::json> read_events(const std::string& directory) {
  std::vector<nlohmann::json> events;
  std::ifstream file(directory + "/events.jsonl");
  for (std::string line; std::getline(file, line);) events.push_back(nlohmann::json::parse(line));
  return events;
}

std::string write_config(const std::string& text) {
  static int count = 0;
  const std::string directory = fresh_directory("config-" + std::to_string(count++));
  std::filesystem::create_directories(directory);
  std::ofstream(directory + "/a.toml") << text;
  return directory + "/a.toml";
}

TensorMap newest_tensors(const std::string& directory) {
  const auto comm = make_single_communicator();
  return load_checkpoint_at(*comm, directory).tensors;
}

std::string first_difference(const TensorMap& a, const TensorMap& b) {
  for (const auto& [name, tensor] : a) {
    if (!b.contains(name)) return name + " is only in the first";
    if (!tensor.equal(b.at(name))) return name + " differs";
  }
  for (const auto& [name, tensor] : b) {
    if (!a.contains(name)) return name + " is only in the second";
  }
  return "";
}

namespace {

// One folder per process, gone when it ends.
class TemporaryRoot {
 public:
  TemporaryRoot()
      : path_(::testing::TempDir() + "espalier-trainer-tests-" + std::to_string(::getpid())) {}
  ~TemporaryRoot() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

std::string fresh_directory(const std::string& name) {
  static const TemporaryRoot root;
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string test = std::string(info->test_suite_name()) + "-" + info->name();
  std::replace(test.begin(), test.end(), '/', '-');
  const std::string path = root.path() + "/" + test + "/" + name;
  std::filesystem::remove_all(path);
  return path;
}

}  // namespace espalier
