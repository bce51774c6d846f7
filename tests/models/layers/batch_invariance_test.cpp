#include "models/layers/batch_invariance.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <random>
#include <vector>

#include "models/layers/linear.h"
#include "tests/models/invariance_settings.h"

namespace espalier {
namespace {

struct Sizes {
  int64_t in, out;
};

// Of the decoder's bench, of small models, with edges that are no whole vectors, and with sums so
// long that libraries take them in parts.
const std::vector<Sizes> kSizes = {{384, 1152}, {384, 384}, {1024, 384}, {8, 32},     {32, 40},
                                   {48, 11},    {100, 37},  {896, 96},   {1537, 129}, {4864, 640}};

class BatchInvariance : public ::testing::TestWithParam<ProductSettings> {
 protected:
  void SetUp() override {
    if (!can_be_batch_invariant()) GTEST_SKIP() << "not known for this processor";
  }

  ProductGuard guard_{GetParam()};
  std::mt19937 random_{5};
};

at::Tensor outputs(Linear& layer, const at::Tensor& rows) {
  const torch::NoGradGuard no_grad;
  return layer->forward(rows);
}

TEST_P(BatchInvariance, ARowHasTheSameOutputInEveryBatch) {
  for (const Sizes& sizes : kSizes) {
    Linear layer(sizes.in, sizes.out, /*with_bias=*/true);
    const at::Tensor rows = torch::randn({2100, sizes.in});
    const at::Tensor all = outputs(layer, rows);
    for (int i = 0; i < 24; ++i) {
      // Small counts as often as large ones: there libraries have the most ways.
      const auto count = static_cast<int64_t>(std::exp2(random_() % 1100 / 100.0));
      const auto first = static_cast<int64_t>(random_() % static_cast<uint64_t>(2100 - count + 1));
      EXPECT_TRUE(outputs(layer, rows.narrow(0, first, count)).equal(all.narrow(0, first, count)))
          << sizes.in << " to " << sizes.out << ", " << count << " rows from " << first;
    }
  }
}

TEST_P(BatchInvariance, ARowHasTheSameGradientInEveryBatch) {
  for (const Sizes& sizes : {Sizes{384, 96}, Sizes{96, 1024}, Sizes{40, 1100}, Sizes{11, 48}}) {
    Linear layer(sizes.in, sizes.out);
    const at::Tensor rows = torch::randn({700, sizes.in});
    const at::Tensor weights = torch::randn({700, sizes.out});
    const auto gradient = [&](int64_t first, int64_t count) {
      const at::Tensor x = rows.narrow(0, first, count).clone().requires_grad_();
      (layer->forward(x) * weights.narrow(0, first, count)).sum().backward();
      return x.grad();
    };
    const at::Tensor all = gradient(0, 700);
    for (const int64_t count : {1, 5, 15, 16, 47, 130, 600}) {
      EXPECT_TRUE(gradient(31, count).equal(all.narrow(0, 31, count)))
          << sizes.in << " to " << sizes.out << ", " << count << " rows";
    }
  }
}

TEST_P(BatchInvariance, TheNumberOfThreadsDoesNotMatter) {
  for (const Sizes& sizes : kSizes) {
    Linear layer(sizes.in, sizes.out);
    const at::Tensor rows = torch::randn({500, sizes.in});
    const at::Tensor expected = outputs(layer, rows);
    for (const int threads : {1, 2, 3}) {
      at::set_num_threads(threads);
      EXPECT_TRUE(outputs(layer, rows).equal(expected))
          << sizes.in << " to " << sizes.out << " on " << threads << " threads";
    }
  }
}

// No promise of the library's: should one give the same bits by itself, there is nothing to show.
TEST_P(BatchInvariance, IsWhatTheLibraryAloneDoesNotGive) {
  const ProductGuard off(GetParam(), /*is_invariant=*/false);
  int64_t different = 0;
  for (const Sizes& sizes : kSizes) {
    Linear layer(sizes.in, sizes.out);
    const at::Tensor rows = torch::randn({600, sizes.in});
    const at::Tensor all = outputs(layer, rows);
    for (int64_t count = 1; count < 100; count += 6) {
      different += !outputs(layer, rows.narrow(0, 0, count)).equal(all.narrow(0, 0, count));
    }
  }
  if (different == 0) GTEST_SKIP() << "on this processor the library is batch-invariant here";
}

TEST_P(BatchInvariance, TheProductIsThatOfTheLibrary) {
  for (const Sizes& sizes : kSizes) {
    Linear layer(sizes.in, sizes.out);
    const at::Tensor rows = torch::randn({77, sizes.in});
    const at::Tensor invariant = outputs(layer, rows);
    const PlainProducts plain;
    const double precision = GetParam().type == at::kFloat ? 1e-4 : 2e-2;
    EXPECT_TRUE(invariant.allclose(outputs(layer, rows), precision, precision)) << sizes.in;
  }
}

INSTANTIATE_TEST_SUITE_P(On, BatchInvariance, all_product_settings(),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace espalier
