#include "models/decoder/branch.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>
#include <set>
#include <utility>

#include "models/layers/fused_ops.h"
#include "tests/models/decoder/packed_rows.h"

namespace espalier {
namespace {

// Three tokens of text, then an image being drawn.
TokenRows text_and_image() {
  Packed packed;
  packed.add_text({1, 2, 3});
  packed.mark(kBeginOfImage);
  packed.add_image(5);
  packed.end();
  TokenRows rows = packed.rows();
  rows.code_sums = torch::randn({5, 8});
  return rows;
}

TEST(Branches, AsDeepAsTheFirstStartWithItsHiddenStatesBitForBit) {
  YModelOptions options = small_options();
  options.branches = {{"reading", 2, BranchHead::kText},
                      {"shallow", 1, BranchHead::kText},
                      {"drawing", 2, BranchHead::kCodes}};
  YModel model(options);
  const TokenRows rows = text_and_image();
  const auto first = model->hidden(rows, 0);
  EXPECT_FALSE(torch::equal(model->hidden(rows, 1), first));
  EXPECT_TRUE(torch::equal(model->hidden(rows, 2), first));
}

TEST(Branches, OfOtherSizesTakeTheTrunksStreamThroughALayerOfTheirOwn) {
  YModelOptions options = small_options();
  options.branches = {{"reading", 2, BranchHead::kText},
                      {.name = "narrow", .layers = 1, .width = 16, .heads = 1, .kv_heads = 1},
                      {.name = "drawing",
                       .layers = 2,
                       .head = BranchHead::kCodes,
                       .width = 48,
                       .heads = 3,
                       .feed_forward_width = 64}};
  YModel model(options);
  const TokenRows rows = text_and_image();
  EXPECT_EQ(model->hidden(rows, 0).sizes(), (std::vector<int64_t>{9, 32}));
  EXPECT_EQ(model->hidden(rows, 1).sizes(), (std::vector<int64_t>{9, 16}));
  EXPECT_EQ(model->text_logits(model->hidden(rows, 1), 1).sizes(), (std::vector<int64_t>{9, 40}));
  const at::Tensor drawn = model->hidden(rows, 2);
  EXPECT_EQ(model->depth(2)->forward(drawn, {}).sizes(), (std::vector<int64_t>{1, 9, 11}));
  // Token by token it is the same.
  KeyValueCache cache(model->cache_layers(2), {0}, 9);
  const at::Tensor embedded = model->embed(rows, 2);
  for (int64_t t = 0; t < 9; ++t) {
    EXPECT_TRUE(torch::allclose(model->step(embedded.narrow(0, t, 1), 2, cache, 1)[0], drawn[t],
                                1e-4, 1e-5));
  }
}

TEST(Branches, PredictTextByTheEmbeddingWhereItIsTied) {
  YModelOptions options = small_options();
  options.has_tied_text_head = true;
  YModel model(options);
  const at::Tensor hidden = torch::randn({3, 32});
  const at::Tensor embedding = model->named_parameters()["text_embedding.weight"];
  const at::Tensor logits = model->text_logits(hidden, kUnderstanding);
  EXPECT_TRUE(torch::allclose(logits, hidden.mm(embedding.t()), 1e-5, 1e-6));
  logits.sum().backward();
  EXPECT_TRUE(embedding.grad().defined());
  for (const auto& name : model->named_parameters().keys()) {
    EXPECT_EQ(name.find("text_head"), std::string::npos) << name;
  }
  options.branches = {{.name = "narrow", .width = 16, .heads = 1, .kv_heads = 1}};
  EXPECT_THROW(YModel{options}, c10::Error);
}

TEST(Branches, HaveTheirHiddenStatesAtEveryDepth) {
  YModel model(small_options());
  Packed packed;
  packed.add_text({1, 2, 3});
  packed.end();
  const TokenRows rows = packed.rows();
  const auto states = model->hidden_states(rows, kGeneration);
  ASSERT_EQ(states.size(), 5U);  // embeddings, two layers of the trunk, two of the branch
  EXPECT_TRUE(torch::equal(states.front(), model->embed(rows, kGeneration)));
  EXPECT_TRUE(torch::equal(states.back(), model->hidden(rows, kGeneration)));
  EXPECT_TRUE(torch::equal(states[2], model->hidden_states(rows, kUnderstanding)[2]));
}

// Two branches read and one draws; nothing but their heads may be there at all.
class ThreeBranches : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {
 protected:
  ThreeBranches() {
    torch::manual_seed(6);
    const auto [trunk_layers, branch_layers] = GetParam();
    YModelOptions options = small_options();
    options.trunk_layers = trunk_layers;
    options.branches = {{"captions", branch_layers, BranchHead::kText},
                        {"drawing", branch_layers, BranchHead::kCodes},
                        {"answers", branch_layers, BranchHead::kText}};
    model_ = YModel(options);
    Packed packed;
    packed.mark(kBeginOfImage);
    packed.add_image(5);
    packed.mark(kEndOfImage);
    packed.add_text({7, 8, 9});
    packed.end();
    rows_ = packed.rows();
    rows_.code_sums = torch::randn({5, 8});
  }

  at::Tensor loss_of(int64_t branch) {
    TokenRows rows = rows_;
    if (branch == 1) {
      const auto hidden = model_->hidden(rows, branch).narrow(0, 0, 5);
      const auto logits = model_->depth(branch)->forward(hidden, torch::randn({2, 5, 8}));
      return cross_entropy_sum(logits.flatten(0, 1), torch::randint(11, {15}, torch::kLong));
    }
    rows.semantics = torch::randn({5, 6});
    const auto logits = model_->text_logits(model_->hidden(rows, branch).narrow(0, 6, 3), branch);
    return cross_entropy_sum(logits, torch::tensor({8, 9, 0}, torch::kLong));
  }

  YModel model_{nullptr};
  TokenRows rows_;
};

TEST_P(ThreeBranches, ALossReachesTheTrunkAndItsOwnBranchAndNothingElse) {
  for (int64_t branch = 0; branch < 3; ++branch) {
    model_->zero_grad();
    loss_of(branch).backward();
    for (const auto& parameter : model_->trunk_parameters()) {
      EXPECT_TRUE(parameter.grad().defined()) << "trunk, loss of branch " << branch;
    }
    for (int64_t other = 0; other < 3; ++other) {
      for (const auto& parameter : model_->branch_parameters(other)) {
        EXPECT_EQ(parameter.grad().defined(), other == branch)
            << "branch " << other << ", loss of branch " << branch;
      }
    }
  }
}

TEST_P(ThreeBranches, EveryParameterIsInExactlyOneGroup) {
  std::vector<at::Tensor> grouped = model_->trunk_parameters();
  for (int64_t branch = 0; branch < 3; ++branch) {
    const auto more = model_->branch_parameters(branch);
    grouped.insert(grouped.end(), more.begin(), more.end());
  }
  std::set<const void*> distinct;
  for (const auto& parameter : grouped) distinct.insert(parameter.unsafeGetTensorImpl());
  EXPECT_EQ(distinct.size(), grouped.size());
  EXPECT_EQ(grouped.size(), model_->parameters().size());
}

INSTANTIATE_TEST_SUITE_P(Depths, ThreeBranches,
                         ::testing::Values(std::pair{2, 1}, std::pair{0, 1}, std::pair{2, 0},
                                           std::pair{0, 0}),
                         [](const auto& test) {
                           return "Trunk" + std::to_string(test.param.first) + "Branches" +
                                  std::to_string(test.param.second);
                         });

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

TEST(Branches, AnUnknownOneIsAnsweredWithTheKnownOnes) {
  const YModel model(small_options());
  EXPECT_EQ(model->branch_index("generation"), kGeneration);
  EXPECT_EQ(message_of([&] { model->branch_index("generaton"); }),
            "the model has no branch \"generaton\", it has \"understanding\", \"generation\"");
  EXPECT_NE(message_of([&] { model->branch_parameters(2); }).find("no branch 2"),
            std::string::npos);
}

TEST(Branches, RefuseTheHeadTheyDoNotHave) {
  YModel model(small_options());
  EXPECT_NE(message_of([&] {
              model->text_logits(torch::zeros({1, 32}), kGeneration);
            }).find("\"generation\" predicts codes"),
            std::string::npos);
  EXPECT_NE(
      message_of([&] { model->depth(kUnderstanding); }).find("\"understanding\" predicts text"),
      std::string::npos);
}

TEST(Branches, MustHaveNamesOfTheirOwn) {
  YModelOptions options = small_options();
  options.branches = {};
  EXPECT_NE(message_of([&] { YModel{options}; }).find("at least one branch"), std::string::npos);
  options.branches = {{"a"}, {"a"}};
  EXPECT_NE(message_of([&] { YModel{options}; }).find("two branches are called \"a\""),
            std::string::npos);
  options.branches = {{"a.b"}};
  EXPECT_NE(message_of([&] { YModel{options}; }).find("without dots"), std::string::npos);
}

}  // namespace
}  // namespace espalier
