#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/attention/attention_mask.h"
#include "models/attention/sequence_batch.h"

namespace espalier {

// One call of a fused kernel: consecutive queries that all see the same keys, or a causal square.
struct AttentionPiece {
  int64_t query_first = 0;  // in the plan's order of queries
  int64_t query_count = 0;
  int64_t key_first = 0;  // in the plan's order of keys
  int64_t key_count = 0;
  at::Tensor key_places;  // (key_count) in the plan's order, where the keys are not consecutive
  bool is_causal = false;
  bool is_first = true;  // no piece before it has any of these queries: nothing to merge with
};

// A mask cut into pieces without a mask. The pieces are disjoint and cover exactly the visible
// pairs; a query in several pieces gets the exact sum by their logsumexps. Rows are put in an order
// in which queries, and as far as possible keys, of a piece are consecutive.
struct AttentionPlan {
  at::Tensor query_order;  // (queries) int64: the query at each place; undefined = as they are
  at::Tensor query_place;  // its inverse
  at::Tensor key_order;    // (rows) int64, likewise
  at::Tensor key_place;
  at::Tensor query_rows;  // (queries) int64: the row of each query; undefined = all rows ask
  at::Tensor positions;   // (rows) int64: rotary position of each row
  std::vector<AttentionPiece> pieces;
  std::optional<SequenceBatch> batch;  // instead of the pieces, where one call can do it all
};

// Groups with the same keys become one piece; a chain of causal groups, each of which sees what the
// one before it sees and that one, becomes one causal square; few queries that see what many others
// see, and more, go with the many and have a piece of their own for the rest.
AttentionPlan make_attention_plan(const std::vector<MaskGroup>& groups);

// With all of its indices on a device; they travel in one copy that the host does not wait for.
AttentionPlan on_device(AttentionPlan plan, at::Device device);

}  // namespace espalier
