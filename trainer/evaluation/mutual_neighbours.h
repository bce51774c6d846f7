#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier {

struct NeighbourOptions {
  int64_t neighbours = 10;  // of a sample, itself aside; at most N - 1 are taken
  // Numbers are clamped to the quantile of their sizes before anything else; 1 = they are not.
  double clamp_quantile = 0.95;
};

// How alike two kinds of features of the same samples are: mutual k-nearest-neighbour alignment of
// Huh et al. 2024 ("The Platonic Representation Hypothesis"), as their code computes it. Features
// are clamped to [-t, t], where t is element int(q |F|) of the sorted sizes of all numbers; rows
// are scaled to unit length; each sample's k nearest others are those of the highest cosine.
struct Alignment {
  double score = 0;  // mean share of the neighbours of a sample that both kinds have in common
  // The same with the samples of one kind shuffled, over so many shuffles: what chance gives, about
  // k / (N - 1).
  double baseline = 0, baseline_deviation = 0;
};

// a (N, A) and b (N, B), any floating type; N >= 2. Without clamping the score is the same for
// rotated features and for rows of any positive length. Throws c10::Error for other shapes.
double mutual_neighbours(const at::Tensor& a, const at::Tensor& b,
                         const NeighbourOptions& options = {});

// The score beside its baseline; `seed` decides the shuffles, of which there is at least one.
Alignment alignment_of(const at::Tensor& a, const at::Tensor& b, const NeighbourOptions& options,
                       int64_t permutations, uint64_t seed);

}  // namespace espalier
