#include "trainer/forward/forward_outputs.h"

#include <string>

#include <torch/torch.h>

#include "models/layers/fused_ops.h"

namespace espalier {

at::Tensor OutputCells::spread(const at::Tensor& rows) const {
  at::Tensor all = at::zeros({batch * columns, rows.size(1)}, rows.options().dtype(at::kFloat));
  all.index_copy_(0, cells.to(rows.device()), rows.detach().to(at::kFloat));
  return all.view({batch, columns, rows.size(1)}).cpu();
}

void add_hidden_states(const std::vector<at::Tensor>& states, const OutputCells& cells, bool every,
                       TensorMap& out) {
  out["last_hidden_state"] = cells.spread(states.back());
  for (size_t i = 0; every && i < states.size(); ++i) {
    out["hidden_states." + std::to_string(i)] = cells.spread(states[i]);
  }
}

at::Tensor shifted_loss(const at::Tensor& logits, const OutputCells& cells,
                        const at::Tensor& labels, const ForwardInputs& in) {
  at::Tensor next = at::full_like(labels, kNoLabel);
  next.narrow(1, 0, cells.columns - 1).copy_(labels.narrow(1, 1, cells.columns - 1));
  const at::Tensor of_rows = next.flatten().index_select(0, cells.cells);
  const at::Tensor rows = of_rows.ne(kNoLabel).nonzero().flatten();
  if (rows.numel() != next.ne(kNoLabel).sum().item<int64_t>()) {
    in.refuse("labels", "asks for a token that only padding comes before; give it -100");
  }
  if (rows.numel() == 0) in.refuse("labels", "has nothing but -100 behind the first token");
  const at::Tensor chosen = logits.index_select(0, rows.to(logits.device()));
  const at::Tensor targets = of_rows.index_select(0, rows).to(logits.device());
  return cross_entropy_sum(chosen, targets) / rows.numel();
}

}  // namespace espalier
