#include "trainer/evaluation/combinations.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "data/sources/dataset.h"

namespace espalier {
namespace {

Sample sample(const std::string& emoji, const std::string& tone) {
  Sample made;
  made.fields = {{"parts", {"emoji", "tone"}}, {"emoji", {emoji}}, {"tone", {tone}}};
  return made;
}

// "man" is never seen dark, nor "woman mage" light.
std::vector<Sample> training() {
  return {sample("man", "light"), sample("man", "medium-light"), sample("woman mage", "dark"),
          sample("woman mage", "medium-light"), sample("mage", "dark")};
}

std::vector<Sample> samples_of(const std::string& split) {
  const Dataset dataset(
      {std::string(ESPALIER_SOURCE_DIR) + "/data/emoji/tones-32-" + split + ".tar"});
  std::vector<Sample> samples;
  for (int64_t i = 0; i < dataset.size(); ++i) samples.push_back(dataset.describe(i));
  return samples;
}

TEST(Combinations, SamplesThatNameNoPartsAreNone) {
  Sample plain;
  plain.fields = {{"caption", {"red apple"}}};
  const Combinations combinations({plain});
  EXPECT_TRUE(combinations.empty());
  EXPECT_EQ(combinations.novelty(plain), Novelty::kNewPart);
}

TEST(Combinations, AreSeenOrNewOrHaveANewPart) {
  const Combinations combinations(training());
  EXPECT_EQ(combinations.parts(), (std::vector<std::string>{"emoji", "tone"}));
  EXPECT_EQ(combinations.values(1), (std::vector<std::string>{"dark", "light", "medium-light"}));
  EXPECT_EQ(combinations.novelty(sample("man", "light")), Novelty::kSeen);
  EXPECT_EQ(combinations.novelty(sample("man", "dark")), Novelty::kNewCombination);
  EXPECT_EQ(combinations.novelty(sample("man", "green")), Novelty::kNewPart);
  EXPECT_EQ(combinations.novelty(Sample{}), Novelty::kNewPart);
  EXPECT_EQ(combinations.of_novelty({sample("man", "light"), sample("man", "dark"),
                                     sample("mage", "light"), sample("elf", "light")},
                                    Novelty::kNewCombination),
            (std::vector<int64_t>{1, 2}));
}

TEST(Combinations, LabelsArePlacesAmongTheValues) {
  const at::Tensor labels =
      Combinations(training()).labels({sample("man", "dark"), sample("elf", "light")});
  EXPECT_TRUE(labels.equal(torch::tensor({{1, 0}, {-1, 1}}, at::kLong))) << labels;
}

TEST(Combinations, ATextNamesTheLongestValueThatStandsInItAsWords) {
  const at::Tensor named = Combinations(training())
                               .named_in({"woman mage: medium-light", "mage: dark", "man: light",
                                          "woman: lighter", "MAN"});
  const at::Tensor expected =
      torch::tensor({{2, 2}, {0, 0}, {1, 1}, {-1, -1}, {-1, -1}}, at::kLong);
  EXPECT_TRUE(named.equal(expected)) << named;
}

TEST(ShareByCombination, WeighsCombinationsAlikeWhateverTheNumberOfTheirPictures) {
  const at::Tensor labels = torch::tensor({{0, 0}, {0, 0}, {0, 0}, {0, 1}}, at::kLong);
  const at::Tensor right = torch::tensor({true, true, true, false});
  const CombinationShare share = share_by_combination(right, labels);
  EXPECT_EQ(share.combinations, 2);
  EXPECT_DOUBLE_EQ(share.value, 0.5);
  EXPECT_DOUBLE_EQ(share.standard_error, 0.5);  // of the mean of 1 and 0
}

TEST(CommittedTones, HeldOutPicturesAreNewCombinationsOfPartsThatTrainingHas) {
  const Combinations combinations(samples_of("train"));
  for (const std::string split : {"validation", "test"}) {
    const std::vector<Sample> held_out = samples_of(split);
    EXPECT_EQ(combinations.of_novelty(held_out, Novelty::kNewCombination).size(), held_out.size());
  }
  EXPECT_EQ(combinations.values(0).size(), 243);
  EXPECT_EQ(combinations.values(1).size(), 5);
}

TEST(CommittedTones, ValidationAndTestShareNoCombination) {
  const Combinations test(samples_of("test"));
  const std::vector<Sample> validation = samples_of("validation");
  EXPECT_EQ(validation.size(), 56);
  EXPECT_TRUE(test.of_novelty(validation, Novelty::kSeen).empty());
}

TEST(CommittedTones, ACaptionNamesTheTwoPartsOfItsPicture) {
  const Combinations combinations(samples_of("train"));
  const std::vector<Sample> test = samples_of("test");
  std::vector<std::string> captions;
  for (const Sample& each : test) captions.push_back(each.caption());
  EXPECT_TRUE(combinations.named_in(captions).equal(combinations.labels(test)));
}

}  // namespace
}  // namespace espalier
