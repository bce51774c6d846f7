#include "models/world_model/query_tokens.h"

namespace espalier {

QueryTokensImpl::QueryTokensImpl(const QueryTokensOptions& options) : options_(options) {
  TORCH_CHECK(!options.groups.empty(), "query tokens want at least one group, got none");
  const auto zeros = [&](int64_t count) { return torch::zeros({count, options.width}); };
  if (options.share) {
    const auto parts = static_cast<int64_t>(options.groups.size());
    TORCH_CHECK(options.width % parts == 0, "shared query tokens want a width divisible by their ",
                parts, " groups, got ", options.width);
    for (const QueryGroup& group : options.groups) {
      TORCH_CHECK(group.tokens == options.groups[0].tokens,
                  "shared query tokens want as many tokens in every group, got ", group.tokens,
                  " in '", group.kind, "' and ", options.groups[0].tokens, " in '",
                  options.groups[0].kind, "'");
    }
    rows_ = options.groups[0].tokens;
    tokens_.push_back(register_parameter("shared", zeros(rows_)));
    return;
  }
  for (const QueryGroup& group : options.groups) {
    tokens_.push_back(register_parameter(group.kind, zeros(group.tokens)));
    rows_ += group.tokens;
  }
}

at::Tensor QueryTokensImpl::forward() const { return at::cat(tokens_); }

int64_t QueryTokensImpl::hidden_width() const {
  return options_.share ? options_.width / static_cast<int64_t>(options_.groups.size())
                        : options_.width;
}

at::Tensor QueryTokensImpl::hidden(const at::Tensor& rows, size_t group) const {
  TORCH_CHECK(rows.dim() == 3 && rows.size(1) == rows_ && rows.size(2) == options_.width &&
                  group < options_.groups.size(),
              "hidden rows of query tokens are (M, ", rows_, ", ", options_.width, ") in ",
              options_.groups.size(), " groups, got ", rows.sizes(), " and group ", group);
  if (options_.share) {
    return rows.narrow(2, static_cast<int64_t>(group) * hidden_width(), hidden_width());
  }
  int64_t first = 0;
  for (size_t g = 0; g < group; ++g) first += options_.groups[g].tokens;
  return rows.narrow(1, first, options_.groups[group].tokens);
}

}  // namespace espalier
