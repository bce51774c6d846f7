#include "trainer/evaluation/mutual_neighbours.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <torch/torch.h>

#include "data/order/random.h"
#include "data/order/sample_order.h"

namespace espalier {
namespace {

at::Tensor clamp_outliers(const at::Tensor& features, double quantile) {
  if (quantile >= 1) return features;
  const at::Tensor sizes = std::get<0>(features.abs().flatten().sort());
  const auto place = static_cast<int64_t>(quantile * static_cast<double>(sizes.numel()));
  const at::Tensor bound = sizes[place];
  return at::minimum(at::maximum(features, -bound), bound);
}

// (N, N) bool: row i has the neighbours of sample i.
at::Tensor neighbour_sets(const at::Tensor& features, const NeighbourOptions& options) {
  constexpr double kItself = -1e8;
  const at::Tensor rows = torch::nn::functional::normalize(
      clamp_outliers(features.detach().to(at::kCPU, at::kDouble), options.clamp_quantile),
      torch::nn::functional::NormalizeFuncOptions().p(2).dim(1));
  at::Tensor likeness = at::mm(rows, rows.t());
  likeness.fill_diagonal_(kItself);
  const int64_t samples = rows.size(0);
  const int64_t count = std::min(options.neighbours, samples - 1);
  const at::Tensor nearest = std::get<1>(likeness.topk(count, 1));
  return at::zeros({samples, samples}, at::kBool).scatter_(1, nearest, true);
}

double shared_part(const at::Tensor& a, const at::Tensor& b) {
  const auto neighbours = a.sum().item<double>();  // of all samples, the same in both
  return at::logical_and(a, b).sum().item<double>() / neighbours;
}

void check_features(const at::Tensor& a, const at::Tensor& b, const NeighbourOptions& options) {
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(0) == b.size(0) && a.size(0) >= 2 &&
                  a.size(1) > 0 && b.size(1) > 0,
              "mutual_neighbours wants features (N, A) and (N, B) of two samples or more, got ",
              a.sizes(), " and ", b.sizes());
  TORCH_CHECK(options.neighbours >= 1, "mutual_neighbours wants at least one neighbour, got ",
              options.neighbours);
}

}  // namespace

double mutual_neighbours(const at::Tensor& a, const at::Tensor& b,
                         const NeighbourOptions& options) {
  check_features(a, b, options);
  return shared_part(neighbour_sets(a, options), neighbour_sets(b, options));
}

Alignment alignment_of(const at::Tensor& a, const at::Tensor& b, const NeighbourOptions& options,
                       int64_t permutations, uint64_t seed) {
  check_features(a, b, options);
  TORCH_CHECK(permutations >= 1, "a baseline wants at least one permutation, got ", permutations);
  const at::Tensor of_a = neighbour_sets(a, options), of_b = neighbour_sets(b, options);
  const int64_t samples = a.size(0);
  std::vector<double> scores;
  for (int64_t p = 0; p < permutations; ++p) {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < samples; ++i) {
      order.push_back(sample_at(combine_streams(seed, static_cast<uint64_t>(p)), i, samples));
    }
    const at::Tensor shuffled = torch::tensor(order, at::kLong);
    // Sample i of the one is paired with another of the other, and so are its neighbours.
    scores.push_back(shared_part(of_a, of_b.index_select(0, shuffled).index_select(1, shuffled)));
  }
  Alignment found{.score = shared_part(of_a, of_b)};
  for (const double score : scores) found.baseline += score / static_cast<double>(permutations);
  double squares = 0;
  for (const double score : scores) squares += std::pow(score - found.baseline, 2);
  if (permutations > 1) {
    found.baseline_deviation = std::sqrt(squares / static_cast<double>(permutations - 1));
  }
  return found;
}

}  // namespace espalier
