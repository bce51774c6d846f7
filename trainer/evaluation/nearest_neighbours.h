#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

// Images as features, one representation for every baseline that looks at pixels: (N, 3, S, S) of
// bytes 0..255 or of floats in [-1, 1] becomes (N, 3 S S) fp32 in [-1, 1], mid-grey at the origin.
// Cosines depend on where the origin is: of bytes as they are, all images point the same way.
at::Tensor pixel_features(const at::Tensor& images);

// For each of `queries` (M, C) the label (M) that most of the k nearest of `reference` (N, C)
// carry, by cosine. Equal votes go to the label of the nearer neighbours. Trains nothing. Labels
// are int64 from 0; N is at least 1.
at::Tensor nearest_neighbour_answers(const at::Tensor& reference,
                                     const at::Tensor& reference_labels, const at::Tensor& queries,
                                     int64_t k = 5);

// Share of answers that are right; a wanted label of -1 counts as answered wrongly. 0 of no
// answers.
double share_right(const at::Tensor& answers, const at::Tensor& wanted);

// Share of `queries` that their nearest neighbours answer rightly; 0 where either side is empty.
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
