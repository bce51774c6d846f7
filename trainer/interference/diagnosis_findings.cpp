// The words, tables and curves of a diagnosis.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>

#include "trainer/interference/diagnosis.h"

namespace espalier {
namespace {

constexpr size_t kBins = 20;     // of a curve over time
constexpr size_t kFewInBin = 3;  // measures

std::string decimals(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string with_interval(const Estimate& estimate, int digits = 3) {
  if (!std::isfinite(estimate.error)) return decimals(estimate.mean, digits);
  return decimals(estimate.mean, digits) + " ± " + decimals(estimate.error, digits);
}

std::string percent(double share) {
  return std::isfinite(share) ? decimals(100 * share, 1) + " %" : "–";
}

PlotPoint point_of(double x, const Estimate& estimate) {
  return {x, estimate.mean, std::isfinite(estimate.error) ? estimate.error : 0};
}

std::string pair_of(const StageDiagnosis& stage, const PairAdvice& pair) {
  return stage.objectives[pair.objectives.first] + " and " +
         stage.objectives[pair.objectives.second];
}

std::string verdict_of(const LayerVote& vote) {
  if (vote.is_conflict()) return "conflict";
  return vote.is_agreement() ? "agreement" : "neither";
}

// The recommendation, in words that promise no more than it rests on.
std::string recommendation(const StageDiagnosis& stage, const ForkAdvice& advice) {
  const std::string layers = std::to_string(advice.layers);
  switch (advice.verdict) {
    case ForkAdvice::Verdict::kTooFew:
      return "Too few measures to recommend anything: " + std::to_string(advice.measures) +
             " in the last half of the stage, " + std::to_string(kFewestMeasures) +
             " are needed. Train longer, or set interference.every_steps lower or "
             "interference.budget higher.";
    case ForkAdvice::Verdict::kNoEvidence:
      return "No evidence for forking " + advice.stack + " earlier than after the " + layers +
             " layers that are shared: at its top no two objectives of different branches pull "
             "most projections against each other.";
    case ForkAdvice::Verdict::kSameBranch:
      return advice.stack +
             " is shared by objectives that go through the same branch, or none: no fork parts "
             "them.";
    case ForkAdvice::Verdict::kFork:
      break;
  }
  std::string who;
  for (const PairAdvice& pair : advice.pairs) {
    if (!pair.can_be_parted || pair.fork != advice.fork) continue;
    who += (who.empty() ? "" : "; ") + pair_of(stage, pair);
  }
  const std::string shared =
      advice.fork == 0 ? "no layer of " + advice.stack + " is shared"
                       : "layers 0 to " + std::to_string(advice.fork - 1) + " of " + advice.stack +
                             " stay shared (" + std::to_string(advice.fork) + " of " + layers + ")";
  return "Recommendation: fork at layer " + std::to_string(advice.fork) + ", so that " + shared +
         ". Evidence: from there up to the top, most projections of every layer are pulled in "
         "opposite directions by " +
         who + " (cosine below zero by more than 2 standard errors, over " +
         std::to_string(advice.measures) +
         " measures). It is a recommendation by gradients, not a proof that the fork trains "
         "better: train both, with the same steps, and compare held-out losses.";
}

// Pairs that a fork cannot part.
std::string same_branch_note(const StageDiagnosis& stage, const ForkAdvice& advice) {
  std::string who;
  for (const PairAdvice& pair : advice.pairs) {
    if (pair.can_be_parted || !pair.fork) continue;
    who += (who.empty() ? "" : "; ") + pair_of(stage, pair);
  }
  if (who.empty() || advice.measures < kFewestMeasures) return "";
  return "In conflict, and in the same branch, so that no fork parts them: " + who +
         ". A branch of its own for one of them would.";
}

Table layer_table(const StageDiagnosis& stage, const ForkAdvice& advice) {
  Table table{.title = "Cosine of gradients in " + advice.stack + ", mean ± standard error",
              .columns = {"layer", "objectives", "cosine", "less baseline", "below 0", "above 0",
                          "finding"}};
  for (const PairAdvice& pair : advice.pairs) {
    for (const LayerVote& vote : pair.layers) {
      const std::string of = " of " + std::to_string(vote.projections);
      table.rows.push_back({std::to_string(vote.layer), pair_of(stage, pair),
                            with_interval(vote.cosine), with_interval(vote.beyond),
                            std::to_string(vote.below) + of, std::to_string(vote.above) + of,
                            verdict_of(vote)});
    }
  }
  return table;
}

// Curves over the layers of a stack: of the layers as wholes, or of one projection each.
using OfPlace = std::function<Estimate(const PlaceEstimate&)>;
PlotCurve depth_curve(const StageDiagnosis& stage, const std::string& stack,
                      const std::string& projection, const std::string& label, const OfPlace& of) {
  PlotCurve curve{.label = label};
  for (const PlaceEstimate& each : stage.places) {
    if (each.place.stack != stack || each.place.layer < 0) continue;
    if (each.place.projection != projection || !std::isfinite(of(each).mean)) continue;
    curve.points.push_back(point_of(static_cast<double>(each.place.layer), of(each)));
  }
  return curve;
}

std::vector<std::string> projections_of(const StageDiagnosis& stage, const std::string& stack) {
  std::vector<std::string> names;
  for (const PlaceEstimate& each : stage.places) {
    const std::string& name = each.place.projection;
    if (each.place.stack != stack || !each.is_projection) continue;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

std::vector<Plot> depth_plots(const StageDiagnosis& stage, const std::string& stack) {
  Plot raw{"cosine by layer of " + stack, "layer", {}};
  Plot beyond{"cosine less its split-half baseline", "layer", {}};
  Plot norms{"norm of an objective's gradient", "layer", {}};
  std::vector<Plot> plots;
  for (size_t o = 0; o < stage.objectives.size(); ++o) {
    PlotCurve baseline = depth_curve(stage, stack, "", stage.objectives[o] + " with itself",
                                     [&](const PlaceEstimate& e) { return e.split_half[o]; });
    baseline.is_baseline = true;
    raw.curves.push_back(std::move(baseline));
    norms.curves.push_back(depth_curve(stage, stack, "", stage.objectives[o],
                                       [&](const PlaceEstimate& e) { return e.norms[o]; }));
  }
  const size_t pairs = InterferenceRecord::pairs_of(stage.objectives.size()).size();
  for (size_t p = 0; p < pairs; ++p) {
    const std::string name = stage.pair_name(p);
    raw.curves.push_back(
        depth_curve(stage, stack, "", name, [&](const PlaceEstimate& e) { return e.cosines[p]; }));
    beyond.curves.push_back(
        depth_curve(stage, stack, "", name, [&](const PlaceEstimate& e) { return e.beyond[p]; }));
    Plot& by_projection = plots.emplace_back(Plot{"cosine by projection: " + name, "layer", {}});
    for (const std::string& projection : projections_of(stage, stack)) {
      by_projection.curves.push_back(
          depth_curve(stage, stack, projection, projection,
                      [&](const PlaceEstimate& e) { return e.cosines[p]; }));
    }
  }
  plots.insert(plots.begin(), {std::move(raw), std::move(beyond), std::move(norms)});
  return plots;
}

// Means of neighbouring measures, with their standard error, so that a long run stays readable.
PlotCurve over_time(const StageDiagnosis& stage, const std::string& label,
                    const std::function<double(const InterferenceRecord&)>& of) {
  const size_t count = stage.records.size();
  const size_t bins = std::clamp<size_t>(count / kFewInBin, 1, kBins);
  PlotCurve curve{.label = label};
  for (size_t bin = 0; bin < bins; ++bin) {
    std::vector<double> values, steps;
    for (size_t i = bin * count / bins; i < (bin + 1) * count / bins; ++i) {
      values.push_back(of(stage.records[i]));
      steps.push_back(static_cast<double>(stage.records[i].step));
    }
    const Estimate estimate = estimate_of(values);
    if (!std::isfinite(estimate.mean)) continue;
    curve.points.push_back(point_of(estimate_of(steps).mean, estimate));
  }
  return curve;
}

double number_at(const InterferenceRecord& record, const ParameterPlace& place,
                 const std::function<double(const PlaceMeasure&)>& of) {
  for (const PlaceMeasure& measure : record.places) {
    if (measure.place == place) return of(measure);
  }
  return kUnknown;
}

// Everything that is shared, and the lowest, middle and highest layer of each stack.
std::vector<ParameterPlace> places_over_time(const StageDiagnosis& stage) {
  std::vector<ParameterPlace> places = {{kEverywhere, -1, ""}};
  for (const ForkAdvice& advice : stage.advice) {
    std::vector<int64_t> layers;
    for (const PlaceEstimate& each : stage.places) {
      if (each.place.stack == advice.stack && each.place.projection.empty()) {
        layers.push_back(each.place.layer);
      }
    }
    for (const size_t at : {size_t{0}, layers.size() / 2, layers.size() - 1}) {
      const ParameterPlace place = {advice.stack, layers[at], ""};
      if (std::find(places.begin(), places.end(), place) == places.end()) places.push_back(place);
    }
  }
  return places;
}

Finding advice_finding(const StageDiagnosis& stage) {
  Finding finding{.title = "Stage " + stage.stage + ": where to fork"};
  for (const ForkAdvice& advice : stage.advice) {
    finding.paragraphs.push_back(recommendation(stage, advice));
    const std::string note = same_branch_note(stage, advice);
    if (!note.empty()) finding.paragraphs.push_back(note);
    finding.tables.push_back(layer_table(stage, advice));
    for (Plot& plot : depth_plots(stage, advice.stack)) finding.plots.push_back(std::move(plot));
  }
  if (stage.advice.empty()) {
    finding.paragraphs.emplace_back(
        "The objectives share no stack of layers, so there is nothing to fork.");
  }
  finding.paragraphs.push_back(
      "Judged are the " + std::to_string(stage.judged) + " of " +
      std::to_string(stage.records.size()) + " measures after step " +
      std::to_string(stage.judged_from) + "; they took " + percent(stage.cost_share) +
      " of the time of training. A cosine below zero: what helps the one objective hurts the "
      "other, "
      "to first order. Less baseline: how much less two objectives agree than two halves of the "
      "batch of one, which is below zero for any two that differ; the recommendation does not rest "
      "on it.");
  return finding;
}

Finding gradient_finding(const StageDiagnosis& stage) {
  Finding finding{.title = "Stage " + stage.stage + ": over time"};
  const size_t pairs = InterferenceRecord::pairs_of(stage.objectives.size()).size();
  for (size_t p = 0; p < pairs; ++p) {
    Plot raw{"cosine: " + stage.pair_name(p), "step", {}};
    Plot beyond{"less baseline: " + stage.pair_name(p), "step", {}};
    for (const ParameterPlace& place : places_over_time(stage)) {
      raw.curves.push_back(over_time(stage, text_of(place), [&](const InterferenceRecord& r) {
        return number_at(r, place, [&](const PlaceMeasure& m) { return m.cosines[p]; });
      }));
      beyond.curves.push_back(over_time(stage, text_of(place), [&](const InterferenceRecord& r) {
        return number_at(r, place, [&](const PlaceMeasure& m) { return beyond_baseline(m, p); });
      }));
    }
    finding.plots.push_back(std::move(raw));
    finding.plots.push_back(std::move(beyond));
  }
  Table table{.title = "Size of an update over the size of the weights",
              .columns = {"group", "ratio", "measures"}};
  Plot ratios{"size of an update over that of the weights", "step", {}};
  for (const auto& [group, ratio] : stage.update_ratios) {
    table.rows.push_back({group, with_interval(ratio, 6), std::to_string(ratio.measures)});
    ratios.curves.push_back(over_time(stage, group, [&](const InterferenceRecord& r) {
      const auto found = r.update_ratios.find(group);
      return found == r.update_ratios.end() ? kUnknown : found->second;
    }));
  }
  finding.tables.push_back(std::move(table));
  finding.plots.push_back(std::move(ratios));
  return finding;
}

Finding held_out_finding(const StageDiagnosis& stage) {
  Finding finding{.title = "Stage " + stage.stage + ": losses on held-out data"};
  if (stage.held_out.empty()) {
    finding.paragraphs.emplace_back(
        "None was measured; evaluation.every_steps and a validation split make them.");
    return finding;
  }
  Table table{.title = "", .columns = {"loss", "first", "best", "last", "at step"}};
  for (const auto& [name, losses] : stage.held_out) {
    const auto best =
        std::min_element(losses.begin(), losses.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    table.rows.push_back({name, decimals(losses.front().second, 4), decimals(best->second, 4),
                          decimals(losses.back().second, 4), decimals(losses.back().first, 0)});
    PlotCurve curve{.label = name};
    for (const auto& [step, loss] : losses) curve.points.push_back({step, loss});
    finding.plots.push_back({name, "step", {std::move(curve)}});
  }
  finding.tables.push_back(std::move(table));
  return finding;
}

Finding alignment_finding(const StageDiagnosis& stage) {
  Finding finding{.title = "Stage " + stage.stage + ": alignment of images and captions"};
  if (stage.alignment.empty()) {
    finding.paragraphs.emplace_back(
        "Not measured: it needs a Y-shaped decoder and captions to validate on, and "
        "interference.alignment_samples.");
    return finding;
  }
  const AlignmentRecord& record = stage.alignment.back();
  finding.paragraphs.push_back(
      "Share of the " + std::to_string(record.neighbours) + " nearest neighbours that " +
      std::to_string(record.samples) +
      " held-out images and their captions have in common, by their mean hidden states, after " +
      std::to_string(record.step) +
      " steps. Chance: the same with shuffled pairs, mean ± standard "
      "deviation of " +
      std::to_string(record.permutations) +
      " shuffles. Depth 0 are the "
      "embeddings; the trunk ends at " +
      std::to_string(record.trunk_layers) + ".");
  Table table{.title = "", .columns = {"branch", "depth", "score", "chance"}};
  Plot plot{"mutual neighbours by depth", "depth", {}};
  for (const auto& branch : record.branches) {
    PlotCurve scores{.label = branch.name};
    PlotCurve chance{.label = branch.name + ", shuffled", .is_baseline = true};
    for (size_t depth = 0; depth < branch.scores.size(); ++depth) {
      const auto x = static_cast<double>(depth);
      scores.points.push_back({x, branch.scores[depth]});
      chance.points.push_back({x, branch.baselines[depth], branch.baseline_deviations[depth]});
      table.rows.push_back({branch.name, std::to_string(depth), decimals(branch.scores[depth], 3),
                            decimals(branch.baselines[depth], 3) + " ± " +
                                decimals(branch.baseline_deviations[depth], 3)});
    }
    plot.curves.push_back(std::move(scores));
    plot.curves.push_back(std::move(chance));
  }
  finding.tables.push_back(std::move(table));
  finding.plots.push_back(std::move(plot));
  return finding;
}

}  // namespace

std::vector<Finding> findings_of(const StageDiagnosis& stage) {
  return {advice_finding(stage), gradient_finding(stage), held_out_finding(stage),
          alignment_finding(stage)};
}

}  // namespace espalier
