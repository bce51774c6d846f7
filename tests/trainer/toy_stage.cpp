#include "toy_stage.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "comm/transport/single_communicator.h"
#include "comm/transport/thread_communicator.h"
#include "data/images/image_codec.h"
#include "data/order/random.h"
#include "trainer/checkpoint/checkpoint_loader.h"

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

struct ToyBatch : MicroBatch {
  at::Tensor x, y;
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

}  // namespace

ToyStage::ToyStage(const StageContext& context, ToyOptions options)
    : config_(context.config),
      stage_(context.stage),
      options_(std::move(options)),
      is_second_(!context.earlier.empty()) {
  const auto seed = static_cast<uint64_t>(config_.seed);
  const int64_t w = options_.width;
  const uint64_t stream = combine_streams(kWeights, context.earlier.size());
  trunk_ = (normal({w, 4}, seed, combine_streams(stream, 1)) * 0.5).requires_grad_();
  trunk_bias_ = torch::zeros({w}).requires_grad_();
  left_ = (normal({1, w}, seed, combine_streams(stream, 2)) * 0.5).requires_grad_();
  right_ = (normal({1, w}, seed, combine_streams(stream, 3)) * 0.5).requires_grad_();
  mean_ = torch::zeros({w});
  gathered_ = torch::zeros({w});
}

std::vector<ParameterGroup> ToyStage::parameter_groups() {
  return {{"trunk", {trunk_, trunk_bias_}}, {"left", {left_}}, {"right", {right_}}};
}

std::unique_ptr<MicroBatch> ToyStage::load(int64_t step, int64_t slot) {
  auto batch = std::make_unique<ToyBatch>();
  batch->step = step;
  batch->slot = slot;
  batch->samples = stage_.micro_batch_size;
  // Every fourth step has no right branch at all; otherwise slots alternate.
  const bool is_left = step % 4 == 3 || slot % 2 == 0;
  batch->task = is_left ? "left" : "right";
  batch->groups = {true, is_left, !is_left};
  // Targets are counted, not samples: the slots of a step weigh differently.
  const int64_t valid = 1 + slot % stage_.micro_batch_size;
  batch->target_counts = {is_left ? double(valid) : 0.0, is_left ? 0.0 : double(valid)};
  const auto seed = static_cast<uint64_t>(config_.seed);
  const auto position = static_cast<uint64_t>(step * stage_.slots() + slot);
  batch->x = normal({valid, 4}, seed, combine_streams(kInputs, position));
  batch->y = (batch->x.sum(1, true) * (is_left ? 1.0 : -0.5)).sin();
  return batch;
}

std::vector<at::Tensor> ToyStage::losses(const MicroBatch& base, int64_t step) {
  const auto& batch = static_cast<const ToyBatch&>(base);
  if (is_second_ && step == options_.dies_at) throw std::runtime_error("the process dies here");
  at::Tensor hidden = torch::tanh(torch::linear(batch.x, trunk_, trunk_bias_));
  gathered_ += hidden.detach().to(at::kFloat).sum(0);
  const auto position = static_cast<uint64_t>(step * stage_.slots() + batch.slot);
  const at::Tensor keep =
      normal({batch.x.size(0), options_.width}, static_cast<uint64_t>(config_.seed),
             combine_streams(kDropout, position)) > -1.0;
  const bool is_left = batch.task == "left";
  const at::Tensor out = torch::linear(hidden * keep, is_left ? left_ : right_);
  at::Tensor loss = (out.to(at::kFloat) - batch.y).square().sum();
  if (options_.bad_steps.contains(step) && batch.slot == 0) {
    loss = loss + std::numeric_limits<float>::infinity();
  }
  return is_left ? std::vector<at::Tensor>{loss, {}} : std::vector<at::Tensor>{{}, loss};
}

void ToyStage::after_optimizer(Communicator& comm, int64_t step) {
  comm.all_reduce(gathered_)->wait();
  mean_.mul_(0.9).add_(gathered_, 0.1);
  gathered_.zero_();
  if (step + 1 == options_.broken_state_at) mean_[0] = std::numeric_limits<float>::quiet_NaN();
}

void ToyStage::skip_step(int64_t) { gathered_.zero_(); }

TensorMap ToyStage::state() {
  return {{"trunk.weight", trunk_},
          {"trunk.bias", trunk_bias_},
          {"left.weight", left_},
          {"right.weight", right_},
          {"mean", mean_}};
}

nlohmann::json ToyStage::evaluate(Communicator& comm, const EvaluationRequest& request) {
  if (comm.rank() != 0) return {};
  const std::string picture = request.directory + "/" + request.picture_prefix + ".png";
  const Image image{2, 2, std::vector<uint8_t>(12, 200)};
  write_png(picture, image);
  const double norm = trunk_.norm().item<double>();
  return {{"toy", {{"trunk_norm", norm}, {"steps", request.step}}}, {"pictures", {picture}}};
}

StageFactory toy_factory(ToyOptions options) {
  return [options](const StageContext& context) {
    return std::make_unique<ToyStage>(context, options);
  };
}

RunConfig toy_config(const std::string& directory, int64_t steps) {
  RunConfig config;
  config.seed = 5;
  config.directory = directory;
  config.checkpoint = {.every_steps = 4, .keep = 2, .resume = "auto"};
  config.log = {.every_steps = 1, .tensorboard = true};
  config.compute.device = "cpu";
  config.compute.threads_per_rank = 1;
  config.compute.bucket_kib = 1;
  for (const char* name : {"first", "second"}) {
    StageConfig stage;
    stage.name = name;
    stage.kind = "tokenizer";
    stage.steps = steps;
    stage.batch_size = 12;
    stage.micro_batch_size = 2;
    stage.ema_decay = 0.9;
    stage.optimizer.warmup_steps = 2;
    stage.optimizer.learning_rate = 0.01;
    config.stages.push_back(stage);
  }
  return config;
}

ToyResult train_toy(const RunConfig& config, int world, int64_t stop_after,
                    const StageFactory& factory) {
  ToyResult result;
  std::mutex mutex;
  const size_t events_before = read_events(config.directory).size();
  run_ranks(world, [&](Communicator& comm) {
    const bool asks = comm.rank() == world - 1;
    TestObserver observer(result, mutex, comm.rank() == 0, asks ? stop_after : -1);
    RunOptions options;
    options.make_stage = factory;
    const RunOutcome outcome = run_training(config, comm, observer, options);
    if (comm.rank() == 0) result.outcome = outcome;
  });
  result.events = read_events(config.directory);
  result.events.erase(result.events.begin(),
                      result.events.begin() + static_cast<std::ptrdiff_t>(events_before));
  return result;
}

std::vector<nlohmann::json> read_events(const std::string& directory) {
  std::vector<nlohmann::json> events;
  std::ifstream file(directory + "/events.jsonl");
  for (std::string line; std::getline(file, line);) events.push_back(nlohmann::json::parse(line));
  return events;
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
