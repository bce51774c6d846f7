#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// Share of `queries` (M, C) whose label is the one that most of the k nearest of `reference`
// (N, C) carry, by cosine. Equal votes go to the label of the nearer neighbours. A measure of
// features that trains nothing.
double nearest_neighbour_accuracy(const at::Tensor& reference, const at::Tensor& reference_labels,
                                  const at::Tensor& queries, const at::Tensor& query_labels,
                                  int64_t k = 5);

// Share of `query_labels` that the most frequent label of `reference_labels` gets right.
double majority_accuracy(const at::Tensor& reference_labels, const at::Tensor& query_labels);

// Labels as int64 by their place in `names`; -1 for a label that is not there.
at::Tensor label_indices(const std::vector<std::string>& labels,
                         const std::vector<std::string>& names);
std::vector<std::string> sorted_unique(std::vector<std::string> labels);

}  // namespace espalier
