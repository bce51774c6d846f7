#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/sample.h"

namespace espalier {

// How a sample stands to the training samples, by the parts it is a combination of.
enum class Novelty {
  kSeen,            // training has this combination
  kNewCombination,  // training has every part, never together
  kNewPart,         // training lacks a part of it, or the sample does not say its parts
};

// Samples as combinations of parts: the field "parts" of a sample names the fields that hold them,
// as {"parts": ["emoji", "tone"], "emoji": "waving hand", "tone": "dark skin tone"}. The parts that
// the first training sample with that field names count for all.
class Combinations {
 public:
  explicit Combinations(const std::vector<Sample>& training);

  bool empty() const { return parts_.empty(); }
  const std::vector<std::string>& parts() const { return parts_; }
  // Of a part, all that training has, sorted.
  const std::vector<std::string>& values(int64_t part) const;

  Novelty novelty(const Sample& sample) const;
  // Indices of the samples of that novelty, in order.
  std::vector<int64_t> of_novelty(const std::vector<Sample>& samples, Novelty novelty) const;
  // (N, parts) int64: places in values(), -1 for a value that training lacks.
  at::Tensor labels(const std::vector<Sample>& samples) const;
  // (N, parts): of each text and part the longest value that stands in it as words; -1: none does.
  at::Tensor named_in(const std::vector<std::string>& texts) const;

 private:
  std::vector<int64_t> labels_of(const Sample& sample) const;

  std::vector<std::string> parts_;
  std::vector<std::vector<std::string>> values_;
  std::set<std::vector<int64_t>> seen_;
};

// A mean over combinations of the share of each one's pictures that are right, and its standard
// error over combinations: pictures of one combination are not independent of each other.
struct CombinationShare {
  double value = 0;
  double standard_error = 0;
  int64_t combinations = 0;
};

// `right` (N) bool of samples with these `labels` (N, parts).
CombinationShare share_by_combination(const at::Tensor& right, const at::Tensor& labels);

}  // namespace espalier
