#include "comm/collectives/combine.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace espalier {
namespace {

using combine::function_of;
using combine::Op;
using combine::Type;

// bfloat16 adds in float, and rounds as LibTorch does.
TEST(Combine, AddsBfloat16InFloat) {
  const at::Tensor a = at::randn({4099}).to(at::kBFloat16);
  const at::Tensor b = (at::randn({4099}) * 100).to(at::kBFloat16);
  const at::Tensor sum = a.clone();
  function_of(Type::kBFloat16, Op::kSum)(sum.data_ptr(), b.data_ptr(), a.numel());
  EXPECT_TRUE(sum.equal((a.to(at::kFloat) + b.to(at::kFloat)).to(at::kBFloat16)));
}

TEST(Combine, LetsANotANumberWinWhereverItIs) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Op op : {Op::kSum, Op::kMax, Op::kMin}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const at::Tensor a = at::tensor({nan, 1.0F, nan}).to(type);
      const at::Tensor b = at::tensor({1.0F, nan, nan}).to(type);
      function_of(type == at::kFloat ? Type::kFloat : Type::kBFloat16, op)(a.data_ptr(),
                                                                           b.data_ptr(), 3);
      EXPECT_TRUE(a.isnan().all().item<bool>()) << a;
    }
  }
}

TEST(Combine, WrapsBytesRoundAsMpiDoes) {
  const at::Tensor a = at::full({100}, 200, at::kByte);
  const at::Tensor b = at::full({100}, 100, at::kByte);
  function_of(Type::kUint8, Op::kSum)(a.data_ptr(), b.data_ptr(), 100);
  EXPECT_TRUE(a.eq(44).all().item<bool>());
}

}  // namespace
}  // namespace espalier
