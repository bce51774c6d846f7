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

TEST(Branches, AsDeepAsTheFirstStartWithItsHiddenStatesBitForBit) {
  YModelOptions options = small_options();
  options.branches = {{"reading", 2, BranchHead::kText},
                      {"shallow", 1, BranchHead::kText},
                      {"drawing", 2, BranchHead::kCodes}};
  YModel model(options);
  Packed packed;
  packed.add_text({1, 2, 3});
  packed.mark(kBeginOfImage);
  packed.add_image(5);
  packed.end();
  TokenRows rows = packed.rows();
  rows.code_sums = torch::randn({5, 8});
  const auto first = model->hidden(rows, 0);
  EXPECT_FALSE(torch::equal(model->hidden(rows, 1), first));
  EXPECT_TRUE(torch::equal(model->hidden(rows, 2), first));
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
