#include "data/inspect.h"

#include <nlohmann/json.hpp>

#include "data/images/image_codec.h"
#include "tests/data/test_files.h"
#include "tests/data/test_images.h"

namespace espalier {
namespace {

TEST(Inspect, CountsTheEmojiShards) {
  const Dataset dataset({source_path("data/emoji/emoji-32-*.tar")});

  const DataStatistics statistics = inspect(dataset);

  EXPECT_EQ(statistics.samples, 1870);
  EXPECT_EQ(statistics.bad_samples, 0);
  EXPECT_EQ(statistics.shards.size(), 4U);
  EXPECT_EQ(statistics.distinct_captions, 1870);
  EXPECT_EQ(statistics.image_sizes, (std::map<std::string, int64_t>{{"32x32", 1870}}));
  const std::map<std::string, int64_t> groups = {
      {"Activities", 85},         {"Animals & Nature", 152}, {"Flags", 269},
      {"Food & Drink", 133},      {"Objects", 261},          {"People & Body", 363},
      {"Smileys & Emotion", 166}, {"Symbols", 223},          {"Travel & Places", 218}};
  EXPECT_EQ(statistics.groups, groups);
  EXPECT_EQ(statistics.subgroups.size(), 99U);
}

TEST(Inspect, MeasuresCaptionsAndKeywords) {
  TemporaryFolder folder;
  const std::string png = text_of(encode_png(test_pattern(6, 4)));
  const auto path = folder.write(
      "s.tar",
      tar_member("a.png", png) +
          tar_member("a.json", R"({"caption":"red café","keywords":["x","y"],"group":"g"})") +
          tar_member("b.png", png) + tar_member("b.json", R"({"caption":"red","keywords":["x"]})") +
          tar_member("c.png", "no") + tar_member("c.json", R"({"caption":"c"})") + tar_end());

  const nlohmann::json json = to_json(inspect(Dataset({path}, {.skip_bad_samples = true})));

  EXPECT_EQ(json["samples"], 2);
  EXPECT_EQ(json["bad_samples"]["count"], 1);
  expect_contains(json["bad_samples"]["messages"][0], {"c.png"});
  EXPECT_EQ(json["captions"]["characters"],
            (nlohmann::json{{"min", 3}, {"mean", 5.5}, {"max", 8}}));
  EXPECT_EQ(json["captions"]["words"]["max"], 2);
  EXPECT_EQ(json["captions"]["distinct_words"], 2);
  EXPECT_EQ(json["keywords"]["distinct"], 2);
  EXPECT_EQ(json["keywords"]["most_frequent"][0]["keyword"], "x");
  EXPECT_EQ(json["keywords"]["most_frequent"][0]["count"], 2);
  EXPECT_EQ(json["image_sizes"]["6x4"], 2);
  EXPECT_EQ(json["groups"]["g"], 1);
}

}  // namespace
}  // namespace espalier
