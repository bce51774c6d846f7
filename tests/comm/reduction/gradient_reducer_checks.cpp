#include "gradient_reducer_checks.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/torch.h>

#include <string>
#include <vector>

#include "comm/reduction/gradient_reducer.h"
#include "recording_communicator.h"

namespace espalier {
namespace {

constexpr int64_t kPixels = 12;
constexpr int64_t kWords = 10;
constexpr int64_t kWidth = 24;
constexpr int kSteps = 6;

enum Group { kTrunk, kImage, kUnderstanding, kGeneration, kGroups };
enum class Task { kCaption, kText, kDraw };

struct TwoBranchModel : torch::nn::Module {
  TwoBranchModel() {
    register_module("words", words);
    register_module("trunk", trunk);
    register_module("image", image);
    register_module("understanding", understanding);
    register_module("generation", generation);
  }

  static torch::nn::Sequential layers(int64_t in, int64_t out) {
    return torch::nn::Sequential(torch::nn::Linear(in, kWidth), torch::nn::GELU(),
                                 torch::nn::Linear(kWidth, out));
  }

  std::vector<ParameterGroup> groups() {
    auto shared = trunk->parameters();
    shared.push_back(words->weight);  // a caption leaves it without a gradient
    return {{"trunk", shared},
            {"image", image->parameters()},
            {"understanding", understanding->parameters()},
            {"generation", generation->parameters()}};
  }

  torch::nn::Embedding words{kWords, kWidth};
  torch::nn::Sequential trunk = layers(kWidth, kWidth);
  torch::nn::Linear image{kPixels, kWidth};
  torch::nn::Sequential understanding = layers(kWidth, kWords);
  torch::nn::Sequential generation = layers(kWidth, kPixels);
};

// Who runs what changes with every step.
Task task_of(int step, int slot, int slots) {
  switch (step) {
    case 0:
      return slot % 2 == 0 ? Task::kCaption : Task::kDraw;
    case 1:
      return Task::kDraw;  // nobody understands, nobody sees an image
    case 2:
      return slot < slots / 2 ? Task::kCaption : Task::kDraw;
    case 3:
      return Task::kText;  // nobody draws, nobody sees an image
    case 4:
      return slot == slots - 1 ? Task::kText : Task::kCaption;
    default:
      return static_cast<Task>(slot % 3);
  }
}

std::vector<bool> groups_of(Task task) {
  switch (task) {
    case Task::kCaption:
      return {true, true, true, false};
    case Task::kText:
      return {true, false, true, false};
    case Task::kDraw:
      return {true, false, false, true};
  }
  return {};
}

struct Batch {
  Task task;
  at::Tensor images;
  at::Tensor words;
};

Batch batch_of(int step, int slot, int slots) {
  auto generator = at::detail::createCPUGenerator(1000 * step + slot);
  const int64_t samples = 2 + slot % 3;
  return {task_of(step, slot, slots), at::rand({samples, kPixels}, generator),
          at::randint(kWords, {samples}, generator, at::kLong)};
}

// Sum over samples, to be divided by the global number of samples of the task.
at::Tensor loss_sum(TwoBranchModel& model, const Batch& batch) {
  if (batch.task == Task::kDraw) {
    const at::Tensor drawn =
        model.generation->forward(model.trunk->forward(model.words(batch.words)));
    return (drawn - batch.images).square().sum();
  }
  const at::Tensor input =
      batch.task == Task::kCaption ? model.image(batch.images) : model.words(batch.words);
  const at::Tensor logits = model.understanding->forward(model.trunk->forward(input));
  return -logits.log_softmax(1).gather(1, batch.words.unsqueeze(1)).sum();
}

std::vector<double> samples_by_task(int step, int slots) {
  std::vector<double> samples(3, 0);
  for (int slot = 0; slot < slots; ++slot) {
    const Batch batch = batch_of(step, slot, slots);
    samples[static_cast<int>(batch.task)] += static_cast<double>(batch.words.size(0));
  }
  return samples;
}

void backward(TwoBranchModel& model, int step, int slot, int slots) {
  const Batch batch = batch_of(step, slot, slots);
  const double samples = samples_by_task(step, slots)[static_cast<int>(batch.task)];
  (loss_sum(model, batch) / samples).backward();
}

std::vector<bool> agree_on_active(Communicator& communicator, int step, int first, int last,
                                  int slots) {
  const at::Tensor flags = at::zeros({kGroups}, at::kInt);
  for (int slot = first; slot < last; ++slot) {
    const auto used = groups_of(task_of(step, slot, slots));
    for (int group = 0; group < kGroups; ++group) {
      if (used[group]) flags[group] = 1;
    }
  }
  communicator.all_reduce(flags, ReduceOp::kMax)->wait();
  const auto* values = flags.data_ptr<int>();
  return std::vector<bool>(values, values + kGroups);
}

void expect_close(const at::Tensor& got, const at::Tensor& expected, const std::string& where) {
  const double error = (got - expected).abs().max().item<double>();
  const double scale = expected.abs().max().item<double>();
  EXPECT_LE(error, 1e-5 * scale) << where;
}

std::vector<at::Tensor> gradients_of_union(const TwoBranchModel& model, int step, int slots) {
  TwoBranchModel whole;
  const auto from = model.parameters();
  const auto to = whole.parameters();
  for (size_t i = 0; i < to.size(); ++i) to[i].data().copy_(from[i]);
  for (int slot = 0; slot < slots; ++slot) backward(whole, step, slot, slots);
  std::vector<at::Tensor> gradients;
  for (const ParameterGroup& group : whole.groups()) {
    for (const at::Tensor& parameter : group.parameters) gradients.push_back(parameter.grad());
  }
  return gradients;
}

void broadcast_weights(Communicator& communicator, TwoBranchModel& model) {
  for (const at::Tensor& parameter : model.parameters()) {
    communicator.broadcast(parameter, 0)->wait();
  }
}

// Gradients of inactive groups, to see that nobody touches them.
std::vector<at::Tensor> snapshot(const std::vector<ParameterGroup>& groups) {
  std::vector<at::Tensor> gradients;
  for (const ParameterGroup& group : groups) {
    for (const at::Tensor& parameter : group.parameters) {
      gradients.push_back(parameter.grad().defined() ? parameter.grad().clone() : at::Tensor());
    }
  }
  return gradients;
}

}  // namespace

void check_gradients_equal_the_union_of_batches(Communicator& communicator, int slots) {
  TwoBranchModel model;
  broadcast_weights(communicator, model);
  const auto groups = model.groups();
  GradientReducer reducer(communicator, groups, {.bucket_bytes = 1500});
  const int first = communicator.rank() * slots / communicator.size();
  const int last = (communicator.rank() + 1) * slots / communicator.size();

  for (int step = 0; step < kSteps; ++step) {
    const auto expected = gradients_of_union(model, step, slots);
    const auto active = agree_on_active(communicator, step, first, last, slots);
    const auto before = snapshot(groups);
    reducer.start_step(active);
    for (int slot = first; slot < last; ++slot) {
      if (slot + 1 == last) reducer.expect_last_backward(groups_of(task_of(step, slot, slots)));
      backward(model, step, slot, slots);
    }
    reducer.finish();

    size_t i = 0;
    for (size_t group = 0; group < groups.size(); ++group) {
      for (const at::Tensor& parameter : groups[group].parameters) {
        const auto where = "step " + std::to_string(step) + ", group " + groups[group].name +
                           ", rank " + std::to_string(communicator.rank());
        const at::Tensor got = parameter.grad();
        if (!active[group]) {
          EXPECT_FALSE(expected[i].defined()) << where;
          EXPECT_EQ(got.defined(), before[i].defined()) << where;
          EXPECT_TRUE(!got.defined() || got.equal(before[i])) << where;
        } else if (expected[i].defined()) {
          expect_close(got, expected[i], where);
          parameter.data().sub_(got, 0.1);
        } else {
          EXPECT_TRUE(got.eq(0).all().item<bool>()) << where;
        }
        ++i;
      }
    }
  }
}

void check_buckets_travel_during_backward(Communicator& communicator) {
  torch::nn::Sequential model;
  for (int layer = 0; layer < 4; ++layer) model->push_back(torch::nn::Linear(32, 32));
  RecordingCommunicator recording(communicator);
  GradientReducer reducer(recording, {{"all", model->parameters()}},
                          {.bucket_bytes = 33 * 32 * 4});  // one layer each

  for (int step = 0; step < 3; ++step) {
    recording.works.clear();
    reducer.start_step({true});
    reducer.expect_last_backward({true});
    at::Tensor hidden = model[0]->as<torch::nn::Linear>()->forward(at::ones({2, 32}));
    size_t sent_before_first_layer = 0;
    hidden.register_hook([&](const at::Tensor&) {
      sent_before_first_layer = recording.works.size();
      // Arrives while every rank is still in its backward, or is a Timeout.
      if (!recording.works.empty()) recording.works.front()->wait();
    });
    for (int layer = 1; layer < 4; ++layer) {
      hidden = model[layer]->as<torch::nn::Linear>()->forward(hidden);
    }
    hidden.sum().backward();
    EXPECT_EQ(sent_before_first_layer, 3u);
    EXPECT_EQ(recording.works.size(), 4u);  // the last one left with the last gradient
    reducer.finish();
    EXPECT_EQ(recording.works.size(), 4u);
  }
}

}  // namespace espalier
