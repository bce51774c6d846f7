#include "trainer/objectives/text_pattern.h"

#include <gtest/gtest.h>

#include "trainer/errors.h"

namespace espalier {
namespace {

Sample sample() {
  Sample sample;
  sample.fields = {{"shape", {"ball"}}, {"keywords", {"round", "toy"}}};
  return sample;
}

TEST(TextPattern, FieldsOfTheSampleStandInTheirPlaces) {
  EXPECT_EQ(fill_pattern("what colour is the {shape}?", sample()), "what colour is the ball?");
  EXPECT_EQ(fill_pattern("{keywords} {shape}", sample()), "round ball");
  EXPECT_EQ(fill_pattern("what is this?", sample()), "what is this?");
  EXPECT_EQ(fill_pattern("{missing}", sample()), "");
}

TEST(TextPattern, NamesTheFieldsThatASampleMustHave) {
  EXPECT_EQ(fields_of_pattern("is the {shape} {size}?", "question"),
            (std::vector<std::string>{"shape", "size"}));
  EXPECT_TRUE(fields_of_pattern("what is this?", "question").empty());
}

TEST(TextPattern, ABraceWithoutItsPairIsRefusedWithTheKey) {
  for (const char* pattern : {"{shape", "shape}", "{}", "{a{b}}", "a {", "}"}) {
    try {
      fields_of_pattern(pattern, "stage.both.objectives.answer.question");
      ADD_FAILURE() << pattern;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("stage.both.objectives.answer.question"),
                std::string::npos);
    }
  }
}

}  // namespace
}  // namespace espalier
