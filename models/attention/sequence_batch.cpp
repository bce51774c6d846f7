#include "models/attention/sequence_batch.h"

#include <torch/torch.h>

#include <algorithm>

namespace espalier {
namespace {

bool is_regular(const std::vector<MaskGroup>& groups, int64_t sequence_step) {
  const MaskGroup& first = groups.front();
  for (size_t i = 0; i < groups.size(); ++i) {
    const int64_t start = first.first + static_cast<int64_t>(i) * sequence_step;
    if (groups[i].first != start || groups[i].stride != first.stride ||
        groups[i].length != first.length) {
      return false;
    }
  }
  return first.first == 0;
}

// A view of regular rows: (samples, count, length, width).
at::Tensor regular_view(const SequenceBatch& batch, const at::Tensor& rows, int64_t samples) {
  const int64_t width = rows.size(1), line = rows.stride(0);
  return rows.as_strided({samples, batch.count, batch.length, width},
                         {batch.count * batch.length * line, batch.sequence_step * line,
                          batch.token_step * line, rows.stride(1)});
}

}  // namespace

std::optional<SequenceBatch> make_sequence_batch(const std::vector<MaskGroup>& groups) {
  if (groups.size() < 2) return std::nullopt;
  const MaskRule rule = groups.front().rule;
  int64_t longest = 0, rows = 0;
  bool is_ragged = false;
  for (const MaskGroup& group : groups) {
    if (group.rule != rule || rule == MaskRule::kNone || !group.sees.empty() || !group.asks) {
      return std::nullopt;
    }
    is_ragged = is_ragged || group.length != groups.front().length;
    longest = std::max(longest, group.length);
    rows += group.length;
  }
  SequenceBatch batch{.count = static_cast<int64_t>(groups.size()),
                      .length = longest,
                      .is_causal = rule == MaskRule::kCausal};
  const int64_t step = groups[1].first - groups[0].first;
  if (is_regular(groups, step)) {
    batch.sequence_step = step;
    batch.token_step = groups.front().stride;
    return batch;
  }
  if (is_ragged) {
    if (!batch.is_causal) return std::nullopt;  // tokens would see the padding
    batch.length = (longest + kPaddedMultiple - 1) / kPaddedMultiple * kPaddedMultiple;
  }
  std::vector<int64_t> cells(static_cast<size_t>(rows));
  for (size_t s = 0; s < groups.size(); ++s) {
    int64_t cell = static_cast<int64_t>(s) * batch.length;
    for (const int64_t row : rows_of(groups[s])) cells[static_cast<size_t>(row)] = cell++;
  }
  batch.cells = at::tensor(cells, at::kLong);
  return batch;
}

at::Tensor to_cells(const SequenceBatch& batch, const at::Tensor& rows, int64_t samples) {
  const int64_t sequences = samples * batch.count, width = rows.size(1);
  if (!batch.cells.defined()) {
    return regular_view(batch, rows, samples).reshape({sequences, batch.length, width});
  }
  const at::Tensor cells = at::zeros({samples, batch.count * batch.length, width}, rows.options());
  cells.index_copy_(1, batch.cells, rows.reshape({samples, -1, width}));
  return cells.view({sequences, batch.length, width});
}

at::Tensor from_cells(const SequenceBatch& batch, const at::Tensor& cells, int64_t samples) {
  const int64_t width = cells.size(2);
  if (batch.cells.defined()) {
    return cells.reshape({samples, batch.count * batch.length, width})
        .index_select(1, batch.cells)
        .flatten(0, 1);
  }
  const at::Tensor by_sequence = cells.reshape({samples, batch.count, batch.length, width});
  // Sequence after sequence, or token after token: the two ways in which all rows are taken.
  const bool is_token_major = batch.token_step != 1;
  return (is_token_major ? by_sequence.transpose(1, 2) : by_sequence)
      .reshape({samples * batch.count * batch.length, width});
}

}  // namespace espalier
