#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trainer/interference/interference_record.h"

namespace espalier {

// A mean over measures, and its standard error. Measures are taken as independent.
struct Estimate {
  double mean = kUnknown, error = kUnknown;
  int64_t measures = 0;  // with a known value
};
Estimate estimate_of(const std::vector<double>& values);  // unknown ones are left out

// Of one place, over the measures that are judged.
struct PlaceEstimate {
  ParameterPlace place;
  bool is_projection = false;
  std::vector<Estimate> norms, split_half;        // by objective
  std::vector<Estimate> cosines, halves, beyond;  // by pair; beyond = less the baseline
};

// What the projections of one layer say of one pair of objectives. A projection is below zero when
// its mean cosine is, by more than kErrors standard errors; above zero likewise.
struct LayerVote {
  int64_t layer = 0;
  int64_t projections = 0, below = 0, above = 0;
  Estimate cosine, beyond;  // of the layer as a whole
  bool is_conflict() const { return 2 * below > projections; }
  bool is_agreement() const { return 2 * above > projections; }
};

struct PairAdvice {
  std::pair<size_t, size_t> objectives;  // indices
  bool can_be_parted = true;             // they go through different branches
  std::vector<LayerVote> layers;         // bottom to top
  // The lowest layer from which on, up to the top, every one is in conflict.
  std::optional<int64_t> fork;
};

// Where the stack of shared layers should fork, by the gradients of its objectives: at the lowest
// fork of the pairs that go through different branches. A stack that no such pair shares (the
// layers of a branch) cannot fork: kSameBranch.
struct ForkAdvice {
  enum class Verdict { kTooFew, kFork, kNoEvidence, kSameBranch };

  std::string stack;
  int64_t layers = 0;    // that are shared now
  int64_t measures = 0;  // that were judged
  Verdict verdict = Verdict::kTooFew;
  int64_t fork = 0;               // kFork: so many layers stay shared
  std::vector<PairAdvice> pairs;  // of which both reach the stack
};

inline constexpr double kErrors = 2;
inline constexpr int64_t kFewestMeasures = 8;

// One for each stack of layers among `places`. `branches`: of the objectives.
std::vector<ForkAdvice> advise_on_forks(const std::vector<PlaceEstimate>& places,
                                        const std::vector<std::string>& branches, int64_t measures);

std::string name_of(ForkAdvice::Verdict verdict);  // "too_few", "fork", …

}  // namespace espalier
