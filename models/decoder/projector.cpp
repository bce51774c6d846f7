#include "models/decoder/projector.h"

namespace espalier {

ProjectorImpl::ProjectorImpl(int64_t in_features, int64_t width) {
  in_ = register_module("in", Linear(in_features, width, /*with_bias=*/true));
  out_ = register_module("out", Linear(width, width, /*with_bias=*/true));
}

at::Tensor ProjectorImpl::forward(const at::Tensor& x) {
  return out_->forward(torch::gelu(in_->forward(x)));
}

}  // namespace espalier
