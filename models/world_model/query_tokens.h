#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>

namespace espalier {

struct QueryGroup {
  std::string kind;    // "dynamic", "depth", "semantic", "action": its parameter's name
  int64_t tokens = 1;  // of one timestep, all views
};

struct QueryTokensOptions {
  int64_t width = 256;
  std::vector<QueryGroup> groups;
  // One set of tokens for all kinds, whose hidden rows are split into equal parts, one per kind
  // (published as share_query, worse: 4.17 against 4.44). Published parts are quarters, however
  // many kinds are on; ours are as many as there are groups.
  bool share = false;
};

// The learned tokens that ask the trunk for dreams and actions. They start at zero, all alike: the
// tokens of a group stay alike until something tells them apart, which with the published mask only
// the decoder does, by position.
class QueryTokensImpl : public torch::nn::Module {
 public:
  // Throws c10::Error when there is no group, or, shared, when groups differ in tokens or do not
  // divide the width.
  explicit QueryTokensImpl(const QueryTokensOptions& options);

  // The tokens of one timestep, group after group: (rows(), width).
  at::Tensor forward() const;
  int64_t rows() const { return rows_; }

  // Of hidden rows (M, rows(), width), what the decoder of group g reads: (M, tokens of g,
  // hidden_width()), a view.
  at::Tensor hidden(const at::Tensor& rows, size_t group) const;
  int64_t hidden_width() const;

 private:
  QueryTokensOptions options_;
  std::vector<at::Tensor> tokens_;  // (tokens, width) per group, or the shared one
  int64_t rows_ = 0;
};
TORCH_MODULE(QueryTokens);

}  // namespace espalier
