#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/weights/safetensors.h"
#include "trainer/forward/forward_inputs.h"

namespace espalier {

constexpr int64_t kNoLabel = -100;  // as in `transformers`

// Where packed rows stand in outputs of batch x columns cells.
struct OutputCells {
  at::Tensor cells;  // (rows) int64: batch * columns + column of each
  int64_t batch = 0, columns = 0;

  // (rows, width) -> (batch, columns, width) fp32 on the CPU, zeros where no row is.
  at::Tensor spread(const at::Tensor& rows) const;
};

// last_hidden_state, and with `every` hidden_states.K of every depth.
void add_hidden_states(const std::vector<at::Tensor>& states, const OutputCells& cells, bool every,
                       TensorMap& out);

// Mean cross entropy of each label by the cell before it, as causal language models are trained:
// logits (rows, vocabulary), labels (batch, columns). ConfigError for a label that no row comes
// before, and where there is none to learn.
at::Tensor shifted_loss(const at::Tensor& logits, const OutputCells& cells,
                        const at::Tensor& labels, const ForwardInputs& in);

}  // namespace espalier
