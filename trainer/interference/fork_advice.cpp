#include "trainer/interference/fork_advice.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "trainer/evaluation/standard_error.h"

namespace espalier {
namespace {

// Below this a cosine is what rounding leaves of 0, however often it is measured.
constexpr double kLeastCosine = 1e-6;

double margin_of(const Estimate& estimate) {
  return std::max(kErrors * estimate.error, kLeastCosine);
}

bool is_below(const Estimate& estimate) {
  return estimate.measures > 1 && estimate.mean < -margin_of(estimate);
}

bool is_above(const Estimate& estimate) {
  return estimate.measures > 1 && estimate.mean > margin_of(estimate);
}

// The layers of a stack as one pair of objectives sees them, bottom to top.
std::vector<LayerVote> votes_of(const std::vector<PlaceEstimate>& places, const std::string& stack,
                                size_t pair) {
  std::map<int64_t, LayerVote> votes;
  for (const PlaceEstimate& each : places) {
    if (each.place.stack != stack || each.place.layer < 0) continue;
    LayerVote& vote = votes[each.place.layer];
    vote.layer = each.place.layer;
    if (each.place.projection.empty()) {
      vote.cosine = each.cosines[pair];
      vote.beyond = each.beyond[pair];
    } else if (each.is_projection) {
      ++vote.projections;
      vote.below += is_below(each.cosines[pair]) ? 1 : 0;
      vote.above += is_above(each.cosines[pair]) ? 1 : 0;
    }
  }
  std::vector<LayerVote> list;
  for (const auto& [layer, vote] : votes) list.push_back(vote);
  return list;
}

std::optional<int64_t> fork_of(const std::vector<LayerVote>& layers) {
  std::optional<int64_t> fork;
  for (auto vote = layers.rbegin(); vote != layers.rend() && vote->is_conflict(); ++vote) {
    fork = vote->layer;
  }
  return fork;
}

bool is_known(const PairAdvice& pair) {
  return std::any_of(pair.layers.begin(), pair.layers.end(),
                     [](const LayerVote& vote) { return vote.cosine.measures > 0; });
}

void decide(ForkAdvice& advice) {
  advice.verdict = ForkAdvice::Verdict::kSameBranch;
  if (std::none_of(advice.pairs.begin(), advice.pairs.end(),
                   [](const PairAdvice& pair) { return pair.can_be_parted; })) {
    return;
  }
  advice.verdict = ForkAdvice::Verdict::kTooFew;
  if (advice.measures < kFewestMeasures) return;
  advice.verdict = ForkAdvice::Verdict::kNoEvidence;
  for (const PairAdvice& pair : advice.pairs) {
    if (!pair.fork || !pair.can_be_parted) continue;
    const bool is_first = advice.verdict != ForkAdvice::Verdict::kFork;
    advice.fork = is_first ? *pair.fork : std::min(advice.fork, *pair.fork);
    advice.verdict = ForkAdvice::Verdict::kFork;
  }
}

}  // namespace

Estimate estimate_of(const std::vector<double>& values) {
  std::vector<double> known;
  std::copy_if(values.begin(), values.end(), std::back_inserter(known),
               [](double value) { return std::isfinite(value); });
  Estimate estimate;
  estimate.measures = std::ssize(known);
  if (known.empty()) return estimate;
  estimate.mean =
      std::accumulate(known.begin(), known.end(), 0.0) / static_cast<double>(known.size());
  estimate.error = standard_error_of_mean(known);
  return estimate;
}

std::vector<ForkAdvice> advise_on_forks(const std::vector<PlaceEstimate>& places,
                                        const std::vector<std::string>& branches,
                                        int64_t measures) {
  std::vector<ForkAdvice> all;
  for (const PlaceEstimate& each : places) {
    const bool is_done = std::any_of(all.begin(), all.end(), [&](const ForkAdvice& advice) {
      return advice.stack == each.place.stack;
    });
    if (each.place.layer < 0 || is_done) continue;
    ForkAdvice& advice = all.emplace_back();
    advice.stack = each.place.stack;
    advice.measures = measures;
    const auto pairs = InterferenceRecord::pairs_of(branches.size());
    for (size_t p = 0; p < pairs.size(); ++p) {
      const auto [a, b] = pairs[p];
      PairAdvice pair{pairs[p], branches[a] != branches[b], votes_of(places, advice.stack, p), {}};
      pair.fork = fork_of(pair.layers);
      advice.layers = std::ssize(pair.layers);
      if (is_known(pair)) advice.pairs.push_back(std::move(pair));
    }
    decide(advice);
  }
  return all;
}

std::string name_of(ForkAdvice::Verdict verdict) {
  switch (verdict) {
    case ForkAdvice::Verdict::kTooFew:
      return "too_few";
    case ForkAdvice::Verdict::kFork:
      return "fork";
    case ForkAdvice::Verdict::kNoEvidence:
      return "no_evidence";
    case ForkAdvice::Verdict::kSameBranch:
      return "same_branch";
  }
  return "";
}

}  // namespace espalier
