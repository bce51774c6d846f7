#include "models/decoder/y_model.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>
#include <torch/torch.h>

#include "models/layers/fused_ops.h"
#include "models/weights/safetensors.h"
#include "tests/models/close.h"
#include "tests/models/decoder/packed_rows.h"

namespace espalier {
namespace {

// The inputs of tests/parity/y_model.py.
class YModelGolden : public ::testing::Test {
 protected:
  YModelGolden()
      : golden_(read_safetensors(ESPALIER_SOURCE_DIR "/tests/parity/golden/y_model.safetensors")),
        model_(small_options()) {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : model_->named_parameters()) {
      parameter.value().copy_(golden_.at("weights/" + parameter.key()));
    }
    const auto& codes = golden_.at("codes");
    const auto& books = golden_.at("codebooks");
    std::vector<at::Tensor> vectors;
    for (int64_t s = 0; s < 3; ++s) {
      vectors.push_back(books[s].index_select(0, codes.select(2, s).flatten()).view({3, 5, 8}));
    }
    sums_ = torch::stack(vectors).cumsum(0);
  }

  TokenRows read_rows() {
    Packed packed;
    const std::vector<std::vector<int64_t>> answers = {{30, 31, 32}, {33}, {34, 35}};
    std::vector<int64_t> rows, targets;
    for (const auto& answer : answers) {
      packed.mark(kBeginOfImage);
      packed.add_image(5);
      packed.mark(kEndOfImage);
      packed.add_text({21, 22});
      for (size_t i = 0; i <= answer.size(); ++i) {
        rows.push_back(static_cast<int64_t>(packed.sources.size()) - 1);
        targets.push_back(i < answer.size() ? answer[i] : 0);
        if (i < answer.size()) packed.add_text({answer[i]});
      }
      packed.end();
    }
    target_rows_ = torch::tensor(rows, torch::kLong);
    targets_ = torch::tensor(targets, torch::kLong);
    TokenRows result = packed.rows();
    result.code_sums = sums_[2].reshape({15, 8});
    result.semantics = golden_.at("semantics").reshape({15, 6});
    return result;
  }

  TokenRows draw_rows() {
    Packed packed;
    std::vector<int64_t> rows;
    for (const std::vector<int64_t>& condition :
         {std::vector<int64_t>{3, 9}, {3, 11, 12, 13, 14}, {3, 5, 6}}) {
      packed.add_text(condition);
      packed.mark(kBeginOfImage);
      packed.add_image(4);
      for (int64_t p = 0; p < 5; ++p) {
        rows.push_back(static_cast<int64_t>(packed.sources.size()) - 5 + p);
      }
      packed.end();
    }
    target_rows_ = torch::tensor(rows, torch::kLong);
    TokenRows result = packed.rows();
    result.code_sums = sums_[2].narrow(1, 0, 4).reshape({12, 8});
    return result;
  }

  at::Tensor read_loss() {
    const auto hidden = model_->hidden(read_rows(), kUnderstanding);
    return cross_entropy_sum(
        model_->text_logits(hidden.index_select(0, target_rows_), kUnderstanding), targets_);
  }

  at::Tensor draw_logits() {
    const auto hidden = model_->hidden(draw_rows(), kGeneration).index_select(0, target_rows_);
    return model_->depth(kGeneration)->forward(hidden, sums_.narrow(0, 0, 2).flatten(1, 2));
  }

  at::Tensor draw_loss() {
    return cross_entropy_sum(draw_logits().flatten(0, 1),
                             golden_.at("codes").permute({2, 0, 1}).reshape(-1));
  }

  void expect_gradients(const at::Tensor& loss, const std::string& name) {
    model_->zero_grad();
    loss.backward();
    for (const auto& parameter : model_->named_parameters()) {
      const auto expected = golden_.find(name + "/grad/" + parameter.key());
      if (expected == golden_.end()) {
        EXPECT_FALSE(parameter.value().grad().defined()) << parameter.key();
      } else {
        EXPECT_TRUE(are_close(parameter.value().grad(), expected->second, 1e-4)) << parameter.key();
      }
    }
  }

  TensorMap golden_;
  YModel model_;
  at::Tensor sums_, target_rows_, targets_;
};

TEST_F(YModelGolden, ReadingEqualsThePythonReferenceWithEveryGradient) {
  const auto hidden = model_->hidden(read_rows(), kUnderstanding);
  EXPECT_TRUE(are_close(hidden.narrow(0, 0, 12), golden_.at("read/hidden_of_first"), 1e-4));
  const auto loss = read_loss();
  EXPECT_TRUE(are_close(loss, golden_.at("read/loss"), 1e-5));
  expect_gradients(loss, "read");
}

TEST_F(YModelGolden, DrawingEqualsThePythonReferenceWithEveryGradient) {
  EXPECT_TRUE(are_close(draw_logits(), golden_.at("draw/logits"), 1e-4));
  const auto loss = draw_loss();
  EXPECT_TRUE(are_close(loss, golden_.at("draw/loss"), 1e-5));
  expect_gradients(loss, "draw");
}

TEST_F(YModelGolden, TenTrainingStepsFollowThePythonReference) {
  torch::optim::AdamW optimizer(
      model_->parameters(), torch::optim::AdamWOptions(1e-2).betas({0.9, 0.95}).weight_decay(0.1));
  std::vector<float> course;
  for (int step = 0; step < 10; ++step) {
    const auto loss = read_loss() / 9 + draw_loss() / 45;
    course.push_back(loss.item<float>());
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }
  EXPECT_TRUE(are_close(torch::tensor(course), golden_.at("course"), 1e-4));
}

TEST_F(YModelGolden, OnTheTrunkAMixedBatchHasTheSumOfTheGradientsOfItsTasks) {
  const auto trunk = model_->trunk_parameters();
  const auto read = torch::autograd::grad({read_loss()}, trunk);
  const auto draw = torch::autograd::grad({draw_loss()}, trunk);
  const auto both = torch::autograd::grad({read_loss() + draw_loss()}, trunk);
  for (size_t i = 0; i < trunk.size(); ++i) {
    EXPECT_TRUE(are_close(both[i], read[i] + draw[i], 1e-5)) << i;
  }
}

TEST_F(YModelGolden, ReadingLeavesTheGenerationBranchWithoutGradients) {
  read_loss().backward();
  for (const auto& p : model_->branch_parameters(kGeneration)) {
    EXPECT_FALSE(p.grad().defined());
  }
  for (const auto& p : model_->branch_parameters(kUnderstanding)) {
    EXPECT_TRUE(p.grad().defined());
  }
}

TEST_F(YModelGolden, ASequenceInABatchHasTheHiddenStatesItHasAlone) {
  const auto together = model_->hidden(draw_rows(), kGeneration);
  Packed alone;
  alone.add_text({3, 11, 12, 13, 14});
  alone.mark(kBeginOfImage);
  alone.add_image(4);
  alone.end();
  TokenRows rows = alone.rows();
  rows.code_sums = sums_[2][1].narrow(0, 0, 4);
  EXPECT_TRUE(are_close(model_->hidden(rows, kGeneration), together.narrow(0, 7, 10), 1e-5));
}

TEST_F(YModelGolden, LogitsOfAStageDependOnCodesOfEarlierStagesOnly) {
  const auto hidden = torch::randn({4, 32});
  auto sums = torch::randn({2, 4, 8});
  const auto before = model_->depth(kGeneration)->forward(hidden, sums);
  sums[1].add_(1.0);  // the second code of every position changes
  const auto after = model_->depth(kGeneration)->forward(hidden, sums);
  EXPECT_TRUE(torch::equal(after.narrow(0, 0, 2), before.narrow(0, 0, 2)));
  EXPECT_FALSE(torch::equal(after[2], before[2]));
  const auto fewer = model_->depth(kGeneration)->forward(hidden, sums.narrow(0, 0, 1));
  EXPECT_TRUE(are_close(fewer, before.narrow(0, 0, 2), 1e-5));
}

// Counts that the layers of Qwen2.5-0.5B and UniFork's projector are known to have.
TEST(YModel, LayerAndProjectorHaveTheParameterCountsOfUniForkAtItsSizes) {
  const auto count = [](const torch::nn::Module& module) {
    int64_t n = 0;
    for (const auto& p : module.parameters()) n += p.numel();
    return n;
  };
  const TransformerBlock layer(TransformerBlockOptions{.width = 896,
                                                       .heads = {14, 2, 64},
                                                       .feed_forward_width = 4864,
                                                       .query_key_value_bias = true});
  EXPECT_EQ(count(*layer), 14912384);
  const Projector projector(1024, 896);
  EXPECT_EQ(count(*projector) + 2 * 896, 1723904);
}

// UniFork at its published size, counted by what a layer and a row of the vocabulary add to small
// models of its widths: 673 million numbers need not be drawn for it.
TEST(YModel, HasTheParameterCountsOfQwenAndOfUniForkAtTheirSizes) {
  const auto count = [](int64_t trunk, std::vector<int64_t> branches, int64_t vocabulary) {
    YModelOptions o;
    o.width = 896;
    o.heads = 14;
    o.kv_heads = 2;
    o.feed_forward_width = 4864;
    o.trunk_layers = trunk;
    o.query_key_value_bias = true;
    o.has_tied_text_head = true;
    o.vocabulary_size = vocabulary;
    o.image_positions = 0;
    for (const int64_t layers : branches) {
      o.branches.push_back({.name = "b" + std::to_string(o.branches.size()), .layers = layers});
    }
    int64_t numbers = 0;
    for (const auto& p : YModel(o)->parameters()) numbers += p.numel();
    return numbers;
  };
  const int64_t none = count(0, {0}, 1);
  const int64_t of_trunk = count(1, {0}, 1) - none, of_branch = count(0, {1}, 1) - none;
  const int64_t of_row = count(0, {0}, 2) - none, fork = count(0, {0, 0}, 1) - none;
  constexpr int64_t kVocabulary = 151936;
  const int64_t qwen = none + 12 * of_trunk + 12 * of_branch + (kVocabulary - 1) * of_row;
  EXPECT_EQ(qwen, 494032768);
  EXPECT_EQ(qwen + fork + 12 * of_branch, 672982272);
}

}  // namespace
}  // namespace espalier
