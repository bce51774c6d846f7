#include "trainer/models/prompt.h"

#include <gtest/gtest.h>

#include "comm/transport/single_communicator.h"
#include "real_things.h"
#include "toy_room.h"

namespace espalier {
namespace {

class Prompts : public ::testing::Test {
 protected:
  explicit Prompts(const std::string& max_pictures = "3")
      : config_(small_config(fresh_directory("run"), {"model.y.max_pictures=" + max_pictures,
                                                      "model.y.max_text_tokens=16"})),
        things_(config_, *comm_, at::kCPU),
        model_(things_.model_as<YDecoder>("y", "a test")),
        tokens_(model_.text().tokens()) {}

  // Ids of texts among marks.
  std::vector<int64_t> ids(const std::vector<std::vector<int64_t>>& parts) const {
    std::vector<int64_t> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  }

  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  RunConfig config_;
  NamedThings things_;
  YDecoder& model_;
  const SequenceTokens& tokens_;
  std::vector<Message> talk_ = {
      {"user", {{.picture = 0}, {.text = "red"}, {.picture = 1}, {.text = "no"}}},
      {"assistant", {{.text = "so"}, {.picture = 2}}},
      {"user", {{.text = "now"}}},
      {"assistant", {{.text = "end"}}}};
};

TEST_F(Prompts, SayWhoSpeaksAndKeepThePlaceOfEveryPicture) {
  const Prompt prompt = prompt_before(model_, talk_, {3, 0});
  EXPECT_EQ(prompt.pictures, (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(prompt.ids, ids({{kPicture, tokens_.question},
                             model_.encode("red"),
                             {kPicture},
                             model_.encode("no"),
                             {tokens_.answer},
                             model_.encode("so"),
                             {tokens_.draw, kPicture, tokens_.question},
                             model_.encode("now"),
                             {tokens_.answer}}));
}

TEST_F(Prompts, OfAPictureThatIsDrawnEndWithTheMarkOfDrawing) {
  ASSERT_EQ(assistant_parts(talk_, true).size(), 1U);
  ASSERT_EQ(assistant_parts(talk_, false).size(), 2U);
  const Prompt prompt = prompt_before(model_, talk_, assistant_parts(talk_, true).front());
  EXPECT_EQ(prompt.pictures, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(prompt.ids, ids({{kPicture, tokens_.question},
                             model_.encode("red"),
                             {kPicture},
                             model_.encode("no"),
                             {tokens_.answer},
                             model_.encode("so"),
                             {tokens_.draw}}));
  const std::vector<Message> before = {talk_[0]};
  EXPECT_EQ(prompt_after(model_, before, true).ids, ids({{kPicture, tokens_.question},
                                                         model_.encode("red"),
                                                         {kPicture},
                                                         model_.encode("no"),
                                                         {tokens_.answer, tokens_.draw}}));
}

class FewPictures : public Prompts {
 protected:
  FewPictures() : Prompts("2") {}
};

TEST_F(FewPictures, OfALongConversationTheEndIsRead) {
  EXPECT_EQ(prompt_before(model_, talk_, {3, 0}).pictures, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(prompt_before(model_, talk_, {1, 1}).pictures, (std::vector<int64_t>{1}))
      << "the picture that is drawn takes one place";
  std::vector<Message> long_talk(40, {"user", {{.text = "word"}}});
  long_talk.push_back({"assistant", {{.text = "end"}}});
  const Prompt prompt = prompt_before(model_, long_talk, {40, 0});
  EXPECT_EQ(prompt.ids.size(), 16U);
  EXPECT_EQ(prompt.ids.back(), tokens_.answer);
}

}  // namespace
}  // namespace espalier
