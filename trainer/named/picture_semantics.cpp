#include "trainer/named/picture_semantics.h"

namespace espalier {
namespace {

// Size carries no meaning in a space that a cosine loss shaped.
at::Tensor unit_rows(const at::Tensor& x) {
  return x * torch::rsqrt(x.pow(2).mean(-1, true) + 1e-6);
}

}  // namespace

at::Tensor picture_semantics(ImageTokenizer& tokenizer, const at::Tensor& codes) {
  return unit_rows(tokenizer->semantic(codes).to(at::kFloat)).to(at::kBFloat16);
}

}  // namespace espalier
