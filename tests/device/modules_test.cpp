// Modules and their parts on a device: the same numbers as on the CPU, and nothing that the host
// would wait for.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "models/decoder/y_model.h"
#include "models/image_tokenizer/residual_vq.h"
#include "models/layers/packed_upload.h"
#include "models/teachers/efficientnet_lite.h"
#include "models/weights/safetensors.h"
#include "real_things.h"
#include "tests/device/simulated_device.h"
#include "tests/models/close.h"
#include "toy_room.h"
#include "trainer/update/optimizer.h"
#include "trainer/update/weight_average.h"

namespace espalier {
namespace {

at::Tensor host(const at::Tensor& t) { return t.detach().to(at::kCPU); }

TEST(PackedUpload, SendsAllTensorsInOneCopyFromPinnedMemory) {
  at::Tensor a = torch::arange(5), b = torch::rand({3, 2}), c = torch::tensor({true, false}), none;
  at::Tensor d = torch::rand({4, 6}).t(), empty = torch::zeros({0, 3});
  const std::vector<at::Tensor> before = {a, b, c, d, empty};
  PackedUpload upload({&a, &b, &none, &c, &d, &empty}, simulated_device());
  EXPECT_TRUE(b.is_cpu() && b.equal(before[1]));  // still usable there
  const DeviceTraffic start = device_traffic();
  upload.send();
  const DeviceTraffic traffic = device_traffic() - start;
  EXPECT_EQ(traffic.uploads, 1);
  EXPECT_EQ(traffic.pageable_uploads, 0);
  EXPECT_EQ(traffic.waits, 0);
  EXPECT_FALSE(none.defined());
  const std::vector<at::Tensor> after = {a, b, c, d, empty};
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i].device(), simulated_device());
    EXPECT_EQ(after[i].scalar_type(), before[i].scalar_type());
    EXPECT_TRUE(host(after[i]).equal(before[i])) << i;
  }
}

TEST(PackedUpload, LeavesTheCpuAlone) {
  at::Tensor a = torch::arange(5);
  const void* const memory = a.data_ptr();
  upload_together({&a}, at::kCPU);
  EXPECT_EQ(a.data_ptr(), memory);
}

TEST(AttentionPlanOnADevice, TravelsOnceForAllLayersAndSteps) {
  const AttentionMask mask = AttentionMask::from_lengths({5, 9, 2});
  YModelOptions options;
  options.width = 32;
  options.heads = options.kv_heads = 2;
  options.feed_forward_width = 48;
  options.trunk_layers = 3;
  options.branches = {{.name = "text"}};
  torch::manual_seed(3);
  YModel model(options);
  TokenRows rows;
  rows.text_ids = torch::arange(16);
  rows.sources = torch::arange(16) + kFirstText;
  rows.mask = mask;
  const at::Tensor expected = model->hidden(rows, 0).detach();
  model->to(simulated_device());
  upload_together({&rows.text_ids, &rows.sources}, simulated_device());
  model->hidden(rows, 0);
  const DeviceTraffic before = device_traffic();
  const at::Tensor actual = model->hidden(rows, 0);
  const DeviceTraffic traffic = device_traffic() - before;
  EXPECT_EQ(traffic.uploads, 0) << to_string(traffic);
  EXPECT_EQ(traffic.waits, 0) << to_string(traffic);
  EXPECT_TRUE(are_close(host(actual), expected, 1e-5));
}

TEST(CodebookStatisticsOnADevice, AreThoseOfTheCpuWithoutAtomics) {
  torch::manual_seed(4);
  ResidualQuantizerOptions options;
  options.stages = 3;
  options.codebook_size = 16;
  options.channels = 4;
  ResidualQuantizer quantizer(options);
  quantizer->codebooks.normal_();
  const at::Tensor latents = torch::randn({200, 4});
  const at::Tensor rows = torch::full({3, 16}, -1, at::kLong).index_fill_(1, torch::arange(5), 7);
  const auto statistics_on = [&](at::Device device) {
    quantizer->to(device);
    at::Tensor statistics = quantizer->new_statistics();
    const at::Tensor there = latents.to(device);
    quantizer->add_statistics(there, quantizer->quantize(there), rows.to(device), statistics);
    return host(statistics);
  };
  const at::Tensor expected = statistics_on(at::kCPU);
  EXPECT_TRUE(are_close(statistics_on(simulated_device()), expected, 1e-5));
}

TEST(CodebookUpdateOnADevice, LeavesEverythingWhereItDoesNotApply) {
  torch::manual_seed(5);
  ResidualQuantizer quantizer(ResidualQuantizerOptions{});
  const auto copies = [&] {
    return std::vector<at::Tensor>{quantizer->codebooks.clone(), quantizer->counts.clone(),
                                   quantizer->averages.clone()};
  };
  const std::vector<at::Tensor> before = copies();
  const at::Tensor nothing = torch::full_like(quantizer->new_statistics(), NAN);
  quantizer->update(nothing, torch::tensor(false));
  const std::vector<at::Tensor> after = copies();
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(after[i].equal(before[i])) << i;
  const at::Tensor some = torch::rand_like(nothing);
  quantizer->update(some, torch::tensor(true));
  EXPECT_FALSE(quantizer->codebooks.equal(before[0]));
}

TEST(TeacherOnADevice, GivesTheFeaturesOfTheCpu) {
  const std::string path = write_teacher(fresh_directory("teacher"));
  EfficientNetLite0 teacher(read_safetensors(path), path);
  const at::Tensor levels = torch::randint(0, 256, {2, 3, 64, 64}, at::kFloat);
  const at::Tensor expected = teacher.features(levels);
  teacher.to(simulated_device());
  const at::Tensor actual = teacher.features(levels);
  EXPECT_EQ(actual.device(), simulated_device());
  EXPECT_TRUE(are_close(host(actual), expected, 1e-4));
}

// Two optimizers of the same weights: one that knows the norm, one that leaves it where it is.
TEST(OptimizerOnADevice, ClipsAndSkipsWithoutKnowingTheNorm) {
  OptimizerConfig config;
  config.clip_norm = 0.5;
  const at::Tensor known = torch::linspace(-1, 1, 12).reshape({3, 4}).requires_grad_();
  const at::Tensor unread = known.detach().to(simulated_device()).requires_grad_();
  Optimizer host_side({{"a", {known}}}, {"a"}, config),
      device_side({{"a", {unread}}}, {"a"}, config);
  for (const double scale : {1.0, 1e-3, 5.0}) {
    known.mutable_grad() = torch::linspace(1, 2, 12).reshape({3, 4}) * scale;
    unread.mutable_grad() = known.grad().to(simulated_device());
    host_side.update({true}, 0.1, host_side.gradient_norm({true}));
    const DeviceTraffic before = device_traffic();
    device_side.update({true}, 0.1, device_side.gradient_norm_on_device({true}));
    const DeviceTraffic traffic = device_traffic() - before;
    EXPECT_EQ(traffic.waits, 0) << to_string(traffic);
    EXPECT_EQ(traffic.uploads, 0) << to_string(traffic);
    EXPECT_TRUE(are_close(host(unread), known.detach(), 1e-6));
  }
  const at::Tensor before = host(unread).clone();
  const TensorMap state = device_side.state();
  const at::Tensor steps = host(state.at("steps/a")).clone();
  unread.mutable_grad().fill_(NAN);
  device_side.update({true}, 0.1, device_side.gradient_norm_on_device({true}));
  EXPECT_TRUE(host(unread).equal(before));
  EXPECT_TRUE(host(state.at("steps/a")).equal(steps));
}

TEST(WeightAverageOnADevice, StaysWhereAStepDoesNotApply) {
  const at::Tensor weights = torch::zeros({3}, simulated_device());
  WeightAverage average({weights}, {"w"}, 0.5);
  weights.fill_(1);
  average.update(0, torch::zeros({}, weights.options().dtype(at::kBool)));
  EXPECT_TRUE(host(average.state().at("w")).equal(torch::zeros({3})));
  average.update(0, torch::ones({}, weights.options().dtype(at::kBool)));
  EXPECT_TRUE(host(average.state().at("w")).equal(torch::full({3}, 0.9)));
}

}  // namespace
}  // namespace espalier
