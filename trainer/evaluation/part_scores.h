#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "trainer/evaluation/combinations.h"
#include "trainer/evaluation/section.h"

namespace espalier {

// (N, 1 + parts) bool: whether all parts are right, then each by itself, of answers and wanted
// labels (N, parts).
at::Tensor parts_right(const at::Tensor& answers, const at::Tensor& wanted);

// Simple means of telling the parts of pictures, (M, parts) labels each. Features are (N, C).
struct PartAnswers {
  at::Tensor nearest;  // parts of the nearest training picture: a combination that was seen, always
  at::Tensor ridge;    // of each part by itself, ridge regression on the features
};
PartAnswers answers_from_features(const at::Tensor& training, const at::Tensor& training_labels,
                                  const at::Tensor& asked);

// The strongest linear drawing: the mean picture plus, for each part, what least squares give it.
// `training` (N, D) with labels (N, parts) -> (M, D) for labels (M, parts).
at::Tensor sums_of_parts(const at::Tensor& training, const at::Tensor& training_labels,
                         const at::Tensor& asked_labels);

// Judges pictures by the true ones. All parts are right where the nearest of all true pictures is
// of the wanted combination. One part is right where it is that of the nearest among those with the
// other parts as wanted: pixels that do not depend on that part have no say.
class PictureJudge {
 public:
  // `truth` (N, D) fp32 with labels (N, parts), every combination that is asked for among them.
  PictureJudge(at::Tensor truth, at::Tensor labels);

  // (M, 1 + parts) bool of pictures (M, D) that should show combinations (M, parts).
  at::Tensor right(const at::Tensor& pictures, const at::Tensor& wanted) const;
  // (M, 1 + parts) fp64: the chance that a picture drawn evenly from those compared is right.
  at::Tensor chance(const at::Tensor& wanted) const;

 private:
  at::Tensor candidates(const at::Tensor& wanted, int64_t column) const;  // (M, N) bool
  at::Tensor hits(const at::Tensor& wanted, int64_t column) const;        // (M, N) bool

  at::Tensor truth_, labels_;
};

// Numbers of one way of doing it on one set of samples.
struct PartRow {
  std::string label;                    // "the model"
  at::Tensor right = {};                // (N, 1 + parts) bool
  std::optional<at::Tensor> chances{};  // (N, 1 + parts) fp64 instead: known, not counted
  bool is_baseline = true;              // false: a ceiling, which nothing has to beat
};

// A set of samples, what was reached on it, and beside it what simpler means reach.
struct PartGroup {
  std::string name;   // of metrics: "never_seen"
  std::string label;  // "never-seen combinations"
  at::Tensor labels;  // (N, parts)
  PartRow reached;
  std::vector<PartRow> beside = {};
  bool is_headline = false;
};

// Of training pictures (all of a seen combination), of new pictures of seen combinations, and of
// never-seen combinations, which is the headline. Samples of other novelty are in no group.
enum class PartPictures { kTraining, kNew, kNeverSeen };
PartGroup part_group(PartPictures pictures, at::Tensor labels, at::Tensor right);

// One table of all groups that have samples, and metrics "NAME_all", "NAME_PART" of each. `what` is
// done: "captions", "drawings".
void add_part_scores(Section& section, const Combinations& combinations, const std::string& what,
                     const std::vector<PartGroup>& groups);

}  // namespace espalier
