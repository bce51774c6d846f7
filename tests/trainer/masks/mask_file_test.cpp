#include "trainer/masks/mask_file.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>

#include "tests/models/attention/drawn_mask.h"
#include "trainer/errors.h"
#include "trainer/masks/mask_expression.h"
#include "trainer/masks/mask_picture.h"

namespace espalier {
namespace {

const std::string kMasks = std::string(ESPALIER_SOURCE_DIR) + "/configs/masks/";

AttentionMask mask_of(const std::string& name, const std::vector<std::string>& sets = {}) {
  return lay_out(read_mask_file(kMasks + name, sets)).mask;
}

std::vector<std::string> small(std::vector<std::string> more = {}) {
  std::vector<std::string> sets = {"timesteps=2",   "context=3",        "dream.dynamic=1",
                                   "dream.depth=1", "dream.semantic=1", "dream.trajectory=0",
                                   "action=1"};
  sets.insert(sets.end(), more.begin(), more.end());
  return sets;
}

// shared/reference/methods.md §3.2, from the published code.
TEST(DreamVlaMask, IsThePublishedMatrix) {
  const std::string context = "###...........\n", later = "###....###....\n";
  const AttentionMask mask = mask_of("dreamvla.toml", small());
  EXPECT_EQ(mask.visible(), 69);
  EXPECT_EQ(drawn(mask), context + context + context + context + context + context +
                             "######........\n" + later + later + later + later + later + later +
                             "###....######.\n");
}

TEST(DreamVlaMask, ActionsOfObservationAndProprioceptionAlone) {
  const AttentionMask mask =
      mask_of("dreamvla.toml", small({"only_observation=true", "proprioception=true"}));
  EXPECT_EQ(mask.visible(), 64);
  const std::string all = drawn(mask);
  EXPECT_EQ(all.substr(6 * 15, 14), ".#####........");
  EXPECT_EQ(all.substr(13 * 15, 14), "........#####.");
}

TEST(DreamVlaMask, DreamsOfAGoalSeeTheStateThen) {
  const AttentionMask mask = mask_of("dreamvla.toml", small({"goal_offset=1"}));
  EXPECT_EQ(mask.visible(), 72);
  for (const size_t row : {3, 4, 5}) {
    EXPECT_EQ(drawn(mask).substr(row * 15, 14), "###.....#.....");
  }
}

TEST(DreamVlaMask, CountsOfThePublishedConfigurations) {
  EXPECT_EQ(mask_of("dreamvla.toml").rows(), 930);
  EXPECT_EQ(mask_of("dreamvla.toml").visible(), 185760);
  const AttentionMask one = mask_of("dreamvla.toml", {"dream.depth=0", "dream.semantic=0"});
  EXPECT_EQ(one.rows(), 570);
  EXPECT_EQ(one.visible(), 113400);
}

TEST(DreamVlaMask, WithinAGroupQueriesMaySeeEachOther) {
  EXPECT_EQ(mask_of("dreamvla.toml", small({"intra_group_attention=true"})).visible(), 69 + 8);
}

TEST(MaskFile, EveryShippedMaskIsRightAndHasAPicture) {
  int64_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kMasks)) {
    const MaskFile file = read_mask_file(entry.path());
    const MaskLayout layout = lay_out(file);
    EXPECT_GT(layout.mask.visible(), 0);
    const Image picture = mask_picture(file, layout);
    EXPECT_GT(picture.width, 400);
    ++files;
  }
  EXPECT_GE(files, 5);
}

class BadMask : public ::testing::Test {
 protected:
  std::string refusal_of(const std::string& toml, const std::vector<std::string>& sets = {}) {
    const auto path =
        std::filesystem::temp_directory_path() / ("mask-" + std::to_string(::getpid()) + ".toml");
    std::ofstream(path) << toml;
    std::string what = "no error";
    try {
      lay_out(read_mask_file(path, sets));
    } catch (const ConfigError& error) {
      what = error.what();
      const size_t at = what.find(path.string());
      what = at == 0 ? what.substr(path.string().size()) : "not the file: " + what;
    }
    std::filesystem::remove(path);
    return what;
  }
};

TEST_F(BadMask, NamesTheLineAndTheGroup) {
  const std::string a = "[[group]]\nname = \"a\"\ntokens = 2\n";
  EXPECT_EQ(refusal_of(a), "no error");
  EXPECT_EQ(refusal_of(a + "sees = [\"b\"]\n"),
            ":4: group \"a\" sees \"b\", and there is no group of that name; groups: a");
  EXPECT_EQ(
      refusal_of(a + "[[group]]\nname = \"b\"\ntokens = 1\nkind = \"query\"\n"),
      ":4: group \"b\" sees nothing at timestep 0: every token has to see something; give it a "
      "group to see, or a kind that sees itself");
  EXPECT_EQ(refusal_of("[[group]]\nname = \"a\"\nrows = [0, 3]\n"
                       "[[group]]\nname = \"b\"\nrows = [3, 5]\n"),
            ":4: group \"b\" has rows 3..5, which overlap group \"a\" on line 1");
  EXPECT_EQ(refusal_of("[[group]]\nname = \"a\"\nlike = \"b\"\ntokens = 1\n"
                       "[[group]]\nname = \"b\"\nlike = \"a\"\ntokens = 1\n"),
            ":1: group \"a\" is like \"b\", and so on in a circle back to \"a\"");
  EXPECT_EQ(refusal_of(a + "kind = \"causl\"\n"),
            ":4: group \"a\": there is no kind \"causl\"; known: causal, full, noise, query, "
            "isolated");
  EXPECT_EQ(refusal_of(a + "token = 3\n"),
            ":4: group \"a\" has no \"token\"; known: name, kind, tokens, rows, once, like, sees");
}

TEST_F(BadMask, NamesTheSettingThatIsWrong) {
  const std::string mask = "[settings]\nn = 2\nflag = false\n[[group]]\nname = \"a\"\n";
  EXPECT_EQ(refusal_of(mask + "tokens = \"n - 3\"\n"),
            ":6: group \"a\" has -1 tokens with these settings; 0 turns a group off");
  EXPECT_EQ(refusal_of(mask + "tokens = \"m\"\n"),
            ":6: group \"a\": tokens = \"m\": \"m\" is no number and no setting of this file");
  EXPECT_EQ(refusal_of(mask + "tokens = 1\nsees = [{ groups = \"a\", if = \"flg\" }]\n"),
            ":7: group \"a\": if = \"flg\" is no setting of this file");
  EXPECT_NE(refusal_of(mask + "tokens = 1\n", {"m=3"}).find("did you mean n?"), std::string::npos);
  EXPECT_NE(refusal_of(mask + "tokens = 1\n", {"n=-1"}).find("n"), std::string::npos);
  EXPECT_EQ(refusal_of("[settings]\nn = 1.5\n"),
            ":2: setting \"n\" is neither a whole number nor true or false");
  EXPECT_EQ(refusal_of("x = [\n").substr(0, 1), ":");
  EXPECT_NE(refusal_of(mask + "tokens = 99999999\n").find("more than"), std::string::npos);
}

TEST(MaskExpression, AddsAndMultipliesNumbersAndSettings) {
  const std::map<std::string, int64_t> settings = {{"n", 5}, {"dream.depth", 3}};
  EXPECT_EQ(evaluate_expression("n - 2", settings), 3);
  EXPECT_EQ(evaluate_expression("2 * n + dream.depth*2 - 1", settings), 15);
  EXPECT_THROW(evaluate_expression("", settings), std::invalid_argument);
  EXPECT_THROW(evaluate_expression("n +", settings), std::invalid_argument);
  EXPECT_THROW(evaluate_expression("n n", settings), std::invalid_argument);
  EXPECT_THROW(evaluate_expression("99999999999", settings), std::invalid_argument);
}

}  // namespace
}  // namespace espalier
