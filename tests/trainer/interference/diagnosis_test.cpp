#include "trainer/interference/diagnosis.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "../real_things.h"
#include "../refusal.h"
#include "../toy_room.h"
#include "pulling_room.h"
#include "trainer/record/metrics.h"

namespace espalier {
namespace {

// Estimates of a stack of `below.size()` layers with three projections each, for two objectives:
// of layer l, `below[l]` projections are below zero beyond doubt, the others at zero.
std::vector<PlaceEstimate> places_with(const std::vector<int>& below, double error = 0.01) {
  std::vector<PlaceEstimate> places;
  for (size_t layer = 0; layer < below.size(); ++layer) {
    for (int projection = 0; projection < 4; ++projection) {
      PlaceEstimate& each = places.emplace_back();
      const bool is_layer = projection == 3;
      each.place = {"trunk", static_cast<int64_t>(layer),
                    is_layer ? "" : "p" + std::to_string(projection)};
      each.is_projection = !is_layer;
      const double mean = projection < below[layer] ? -0.1 : 0.0;
      each.cosines = each.beyond = each.halves = {{mean, error, 10}};
    }
  }
  return places;
}

ForkAdvice advice_on(const std::vector<int>& below, int64_t measures = 10, double error = 0.01,
                     const std::vector<std::string>& branches = {"left", "right"}) {
  return advise_on_forks(places_with(below, error), branches, measures).at(0);
}

TEST(ForkAdvice, IsTheLowestLayerFromWhichOnAllUpToTheTopAreInConflict) {
  const ForkAdvice advice = advice_on({3, 0, 2, 3});  // layer 0 is, but layer 1 is not
  EXPECT_EQ(advice.verdict, ForkAdvice::Verdict::kFork);
  EXPECT_EQ(advice.fork, 2);
  EXPECT_EQ(advice.layers, 4);
  EXPECT_EQ(advice_on({2, 2}).fork, 0);
}

TEST(ForkAdvice, WantsMostProjectionsOfALayer) {
  EXPECT_EQ(advice_on({0, 1}).verdict, ForkAdvice::Verdict::kNoEvidence);
  EXPECT_EQ(advice_on({0, 2}).verdict, ForkAdvice::Verdict::kFork);
}

TEST(ForkAdvice, HasNoEvidenceWhereTheTopIsNotInConflict) {
  EXPECT_EQ(advice_on({3, 3, 3, 0}).verdict, ForkAdvice::Verdict::kNoEvidence);
}

TEST(ForkAdvice, TakesNothingForAConflictThatTwoStandardErrorsReachAcross) {
  EXPECT_EQ(advice_on({3, 3}, 10, /*error=*/0.049).verdict, ForkAdvice::Verdict::kFork);
  EXPECT_EQ(advice_on({3, 3}, 10, /*error=*/0.051).verdict, ForkAdvice::Verdict::kNoEvidence);
}

TEST(ForkAdvice, SaysWhenMeasuresAreTooFew) {
  EXPECT_EQ(advice_on({3, 3}, kFewestMeasures - 1).verdict, ForkAdvice::Verdict::kTooFew);
  EXPECT_EQ(advice_on({3, 3}, kFewestMeasures).verdict, ForkAdvice::Verdict::kFork);
}

TEST(ForkAdvice, DoesNotForkForObjectivesOfTheSameBranch) {
  const ForkAdvice advice = advice_on({3, 3}, 10, 0.01, {"left", "left"});
  EXPECT_EQ(advice.verdict, ForkAdvice::Verdict::kSameBranch);
  EXPECT_EQ(advice.pairs.at(0).fork, 0);
}

TEST(Estimates, AreMeansOfKnownValuesWithTheirStandardError) {
  const Estimate estimate = estimate_of({1, kUnknown, 3});
  EXPECT_EQ(estimate.measures, 2);
  EXPECT_DOUBLE_EQ(estimate.mean, 2);
  EXPECT_DOUBLE_EQ(estimate.error, 1);
  EXPECT_EQ(estimate_of({kUnknown}).measures, 0);
}

// Layers 0 and 1 agree, 2 and 3 are pulled apart.
TEST(Diagnosis, FindsTheLayerFromWhichOnARunsObjectivesPullApart) {
  const std::string run = fresh_directory("run");
  train_pulling(run, 40, {{"a", "left", {1, 1, 1, 1}}, {"b", "right", {0.9, 0.2, -0.3, -0.8}}});
  const auto stages = diagnose_run(run);
  ASSERT_EQ(stages.size(), 1u);
  EXPECT_EQ(stages[0].judged_from, 20);
  EXPECT_EQ(stages[0].judged, 10);
  const ForkAdvice& advice = stages[0].advice.at(0);
  EXPECT_EQ(advice.stack, "trunk");
  EXPECT_EQ(advice.verdict, ForkAdvice::Verdict::kFork);
  EXPECT_EQ(advice.fork, 2);
  EXPECT_EQ(advice.pairs.at(0).layers.at(3).projections, 2);  // the norm has no vote
  EXPECT_NEAR(advice.pairs[0].layers[3].cosine.mean, -0.8, 1e-6);
  EXPECT_TRUE(advice.pairs[0].layers[0].is_agreement());
  EXPECT_GT(stages[0].cost_share, 0);

  const auto findings = findings_of(stages[0]);
  const std::string& said = findings.at(0).paragraphs.at(0);
  EXPECT_NE(said.find("fork at layer 2"), std::string::npos) << said;
  EXPECT_NE(said.find("layers 0 to 1 of trunk stay shared (2 of 4)"), std::string::npos) << said;
  EXPECT_NE(said.find("not a proof"), std::string::npos) << said;
  EXPECT_EQ(findings[0].tables.at(0).rows.size(), 4u);
  const auto json = to_json(stages[0]);
  EXPECT_EQ(json.at("advice").at(0).at("verdict"), "fork");
  EXPECT_EQ(json.at("advice").at(0).at("fork"), 2);
}

TEST(Diagnosis, OfAShortRunSaysThatMeasuresAreTooFew) {
  const std::string run = fresh_directory("run");
  train_pulling(run, 4, {{"a", "left", {1}}, {"b", "right", {-1}}});
  const auto stages = diagnose_run(run);
  EXPECT_EQ(stages.at(0).advice.at(0).verdict, ForkAdvice::Verdict::kTooFew);
  EXPECT_NE(findings_of(stages[0]).at(0).paragraphs.at(0).find("interference.every_steps"),
            std::string::npos);
}

TEST(Diagnosis, WithoutMeasuresNamesTheSetting) {
  const std::string run = fresh_directory("run");
  train_pulling(run, 2, {{"a", "left", {1}}, {"b", "right", {-1}}}, 1,
                {"interference.every_steps=0"});
  EXPECT_NE(espalier::refusal([&] { diagnose_run(run); }).find("--set interference.every_steps"),
            std::string::npos);
  EXPECT_NE(espalier::refusal([&] { diagnose_run(run + "-none"); }).find("is not a run directory"),
            std::string::npos);
}

TEST(Diagnosis, LeavesLinesThatAreCutOutOfIt) {
  const std::string run = fresh_directory("run");
  train_pulling(run, 4, {{"a", "left", {1}}, {"b", "right", {-1}}});
  std::ofstream(interference_path(run), std::ios::app) << "{\"stage\": \"pul";
  EXPECT_EQ(diagnose_run(run).at(0).records.size(), 2u);
}

TEST(Diagnosis, OfASmallDecoderHasLayersHeldOutLossesAndAlignment) {
  const std::string run = fresh_directory("run");
  const RunConfig config = small_config(
      run, {"interference.every_steps=1", "interference.budget=1", "evaluation.every_steps=3",
            "evaluation.max_samples=4", "interference.alignment_samples=12",
            "interference.neighbours=3", "model.y.trunk_layers=2", "stage.codes.steps=2"});
  train_toy(config, 2);
  const auto stages = diagnose_run(run);
  ASSERT_EQ(stages.size(), 2u);
  EXPECT_EQ(stages[0].stage, "codes");
  const StageDiagnosis& both = stages[1];
  ASSERT_EQ(both.advice.size(), 2u);
  EXPECT_EQ(both.advice[0].stack, "trunk");
  EXPECT_EQ(both.advice[0].layers, 2);
  EXPECT_EQ(both.advice[1].stack, "branch.understanding.layers");  // of caption and group alone
  EXPECT_EQ(both.advice[1].verdict, ForkAdvice::Verdict::kSameBranch);
  EXPECT_EQ(both.advice[1].pairs.size(), 1u);
  EXPECT_EQ(both.advice[0].pairs.size(), 3u);
  EXPECT_FALSE(both.advice[0].pairs[0].can_be_parted);  // caption and group
  EXPECT_EQ(both.advice[0].pairs[1].layers.at(0).projections, 4);
  EXPECT_EQ(both.update_ratios.size(), 3u);
  EXPECT_TRUE(both.held_out.contains("validation/draw"));

  ASSERT_EQ(both.alignment.size(), 2u);  // on step 3 and at the end
  const AlignmentRecord& alignment = both.alignment.back();
  EXPECT_EQ(alignment.step, 6);
  EXPECT_EQ(alignment.samples, 12);
  EXPECT_EQ(alignment.neighbours, 3);
  ASSERT_EQ(alignment.branches.size(), 2u);
  for (const auto& branch : alignment.branches) {
    ASSERT_EQ(branch.scores.size(), 1u + 2 + 1);
    for (size_t depth = 0; depth < branch.scores.size(); ++depth) {
      EXPECT_GE(branch.scores[depth], 0);
      EXPECT_LE(branch.scores[depth], 1);
      EXPECT_NEAR(branch.baselines[depth], 3.0 / 11, 0.15);
    }
  }
}

TEST(Diagnosis, AlignmentIsTheSameOnAnyNumberOfRanks) {
  std::vector<AlignmentRecord> found;
  for (const int world : {1, 2}) {
    const std::string run = fresh_directory("run-" + std::to_string(world));
    train_toy(small_config(run, {"interference.every_steps=4", "stage.both.steps=1",
                                 "stage.codes.steps=1", "interference.alignment_samples=16"}),
              world);
    const auto lines = read_by_step(alignment_path(run));
    ASSERT_EQ(lines.size(), 1u);
    found.push_back(alignment_record_from_json(lines[0]));
  }
  for (size_t branch = 0; branch < 2; ++branch) {
    for (size_t depth = 0; depth < found[0].branches[branch].scores.size(); ++depth) {
      // Rounding may turn a tie of neighbours.
      EXPECT_NEAR(found[0].branches[branch].scores[depth], found[1].branches[branch].scores[depth],
                  0.05);
    }
  }
}

}  // namespace
}  // namespace espalier
