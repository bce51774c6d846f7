#include "trainer/evaluation/nearest_neighbours.h"

#include <torch/torch.h>

#include <algorithm>

namespace espalier {

at::Tensor pixel_features(const at::Tensor& images) {
  const at::Tensor flat = images.flatten(1);
  return flat.is_floating_point() ? flat.to(at::kFloat) : flat.to(at::kFloat).div_(127.5).sub_(1.0);
}

at::Tensor nearest_neighbour_answers(const at::Tensor& reference,
                                     const at::Tensor& reference_labels, const at::Tensor& queries,
                                     int64_t k) {
  const torch::NoGradGuard no_gradient;
  // A caller may run in bf16, whose rounding swaps neighbours.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  TORCH_CHECK(reference.size(0) > 0, "nearest neighbours: nothing to compare with");
  const auto unit = [](const at::Tensor& rows) {
    const at::Tensor flat = rows.flatten(1).to(at::kFloat);
    return flat / flat.norm(2, 1, /*keepdim=*/true).clamp_min_(1e-12);
  };
  k = std::min(k, reference.size(0));
  const at::Tensor nearest = std::get<1>(at::mm(unit(queries), unit(reference).t()).topk(k, 1));
  const at::Tensor labels = reference_labels.index_select(0, nearest.flatten()).view_as(nearest);
  // A vote weighs 1 and a little more the nearer it is: all the littles together stay below 1.
  const at::Tensor votes =
      at::linspace(0.9, 0.0, k).div_(static_cast<double>(k)).add_(1.0).expand_as(labels);
  const int64_t classes = reference_labels.max().item<int64_t>() + 1;
  return at::zeros({queries.size(0), classes}).scatter_add_(1, labels, votes).argmax(1);
}

double share_right(const at::Tensor& answers, const at::Tensor& wanted) {
  if (wanted.numel() == 0) return 0.0;
  return answers.eq(wanted).logical_and_(wanted.ge(0)).to(at::kDouble).mean().item<double>();
}

double nearest_neighbour_accuracy(const at::Tensor& reference, const at::Tensor& reference_labels,
                                  const at::Tensor& queries, const at::Tensor& query_labels,
                                  int64_t k) {
  if (queries.size(0) == 0 || reference.size(0) == 0) return 0.0;
  return share_right(nearest_neighbour_answers(reference, reference_labels, queries, k),
                     query_labels);
}

double majority_accuracy(const at::Tensor& reference_labels, const at::Tensor& query_labels) {
  if (query_labels.numel() == 0 || reference_labels.numel() == 0) return 0.0;
  const int64_t most = at::bincount(reference_labels).argmax().item<int64_t>();
  return query_labels.eq(most).to(at::kDouble).mean().item<double>();
}

at::Tensor label_indices(const std::vector<std::string>& labels,
                         const std::vector<std::string>& names) {
  std::vector<int64_t> indices;
  indices.reserve(labels.size());
  for (const std::string& label : labels) {
    const auto found = std::find(names.begin(), names.end(), label);
    indices.push_back(found == names.end() ? -1 : found - names.begin());
  }
  return torch::tensor(indices, at::kLong);
}

std::vector<std::string> sorted_unique(std::vector<std::string> labels) {
  std::sort(labels.begin(), labels.end());
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

}  // namespace espalier
