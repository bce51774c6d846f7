#include "data/sources/dataset.h"

#include <set>
#include <thread>

#include "data/errors.h"
#include "data/images/image_codec.h"
#include "data/images/webp_codec.h"
#include "tests/data/test_files.h"
#include "tests/data/test_images.h"

namespace espalier {
namespace {

const std::string kTrain = source_path("data/emoji/emoji-32-train-*.tar");
const std::string kTest = source_path("data/emoji/emoji-32-test.tar");
const DatasetOptions kSkip = {.skip_bad_samples = true};

std::string fields_of(const std::string& caption) { return R"({"caption":")" + caption + "\"}"; }

std::string sample(const std::string& key, const std::string& caption = "a cat") {
  return tar_member(key + ".png", text_of(encode_png(test_pattern(6, 6)))) +
         tar_member(key + ".json", fields_of(caption));
}

class Shards : public ::testing::Test {
 protected:
  std::string shard(const std::string& members, const std::string& name = "s.tar") const {
    return folder_.write(name, members + tar_end());
  }
  static std::string error_of(const std::string& path, const DatasetOptions& options = {}) {
    return message_of<DataError>([&] { Dataset({path}, options); });
  }
  TemporaryFolder folder_;
};

TEST(EmojiShards, HoldTheSplitsOfTheDocumentation) {
  EXPECT_EQ(Dataset({kTrain}).size(), 1517);
  EXPECT_EQ(Dataset({source_path("data/emoji/emoji-32-validation.tar")}).size(), 175);
  EXPECT_EQ(Dataset({kTest}).size(), 178);
}

TEST(EmojiShards, NoCodePointsOrCaptionsAreInTwoSplits) {
  const Dataset all({source_path("data/emoji/emoji-32-*.tar")});
  std::set<std::string> captions;
  std::set<std::string> codepoints;
  std::set<std::string> keys;
  for (int64_t i = 0; i < all.size(); ++i) {
    const Sample emoji = all.describe(i);
    captions.insert(emoji.caption());
    codepoints.insert(emoji.text("codepoints"));
    keys.insert(emoji.key);
  }
  EXPECT_EQ(captions.size(), 1870U);
  EXPECT_EQ(codepoints.size(), 1870U);
  EXPECT_EQ(keys.size(), 1870U);
}

TEST(EmojiShards, CarryEveryField) {
  const Sample emoji = Dataset({kTrain}).get(0);
  EXPECT_EQ(emoji.key, "00000");
  EXPECT_EQ(emoji.caption(), "grinning face");
  EXPECT_EQ(emoji.texts("keywords"), (std::vector<std::string>{"face", "grin"}));
  EXPECT_EQ(emoji.text("group"), "Smileys & Emotion");
  EXPECT_EQ(emoji.text("subgroup"), "face-smiling");
  EXPECT_EQ(emoji.text("codepoints"), "1F600");
  EXPECT_EQ(emoji.image.width, 32);
  EXPECT_EQ(emoji.image.height, 32);
}

TEST_F(Shards, SamplesComeBackInTheOrderOfShardsAndMembers) {
  const auto first = shard(sample("b", "one") + sample("a", "two"), "1.tar");
  const auto second = shard(sample("b", "three"), "2.tar");
  const Dataset dataset({second, first});
  EXPECT_EQ(dataset.size(), 3);
  EXPECT_EQ(dataset.get(0).caption(), "three");
  EXPECT_EQ(dataset.get(1).caption(), "one");
  EXPECT_EQ(dataset.get(2).caption(), "two");
  EXPECT_EQ(dataset.get(0).image.rgb, test_pattern(6, 6).rgb);
  EXPECT_THROW(dataset.get(3), std::out_of_range);
}

TEST_F(Shards, TakeWebp) {
  const auto path = shard(tar_member("a.webp", text_of(encode_webp(test_pattern(6, 5), 90))) +
                          tar_member("a.json", fields_of("x")));
  const Dataset dataset({path});
  ASSERT_EQ(dataset.size(), 1);
  EXPECT_EQ(dataset.get(0).image.width, 6);
  EXPECT_EQ(dataset.get(0).image.height, 5);
}

TEST_F(Shards, TakeJpegAndIgnoreOtherMembers) {
  const auto path = shard(tar_member("f/a.jpg", text_of(jpeg_of(6, 6, 3, test_pattern(6, 6).rgb))) +
                          tar_member("f/a.txt", "ignored") + tar_member("README", "ignored") +
                          tar_member("f/a.json", R"({"caption":"x","keywords":null,"score":3})"));
  const Dataset dataset({path});
  ASSERT_EQ(dataset.size(), 1);
  EXPECT_EQ(dataset.get(0).key, "f/a");
  EXPECT_EQ(dataset.get(0).text("group"), "");
  EXPECT_EQ(dataset.get(0).image.width, 6);
}

TEST_F(Shards, ResizeToTheAskedSize) {
  const Dataset dataset({shard(sample("a"))}, {.image_size = 4});
  EXPECT_EQ(dataset.get(0).image.rgb, resize(test_pattern(6, 6), 4, 4).rgb);
}

TEST_F(Shards, AMissingFileIsNamed) {
  expect_contains(error_of("/nonexistent/train.tar"), {"/nonexistent/train.tar", "no such file"});
}

TEST_F(Shards, APatternThatMatchesNothingIsNamed) {
  expect_contains(error_of(folder_.file("train-*.tar")), {"no file matches", "train-*.tar"});
}

TEST_F(Shards, AnEmptyListOrSplitIsRefused) {
  EXPECT_THROW(Dataset({}), DataError);
  const auto path = shard(tar_member("README", "nothing here"));
  expect_contains(error_of(path), {path, "no samples"});
}

TEST_F(Shards, ATruncatedShardNamesFileMemberAndOffsetEvenWhenBadSamplesAreSkipped) {
  const std::string whole = sample("00001") + sample("00002");
  const auto path = folder_.write("cut.tar", whole.substr(0, whole.size() - 510));
  const std::string message = error_of(path, kSkip);
  expect_contains(message, {path, "truncated", "00002.json", "at byte", "after member 00002.png"});
}

TEST_F(Shards, APngThatIsNoPngIsNamedWithItsMember) {
  const auto path = shard(sample("00001") + tar_member("00002.png", "this is no picture") +
                          tar_member("00002.json", fields_of("b")));
  expect_contains(error_of(path),
                  {path, "00002.png", "neither PNG, JPEG nor WebP", "on_bad_sample"});
}

TEST_F(Shards, BadSamplesAreSkippedCountedAndNamedOnlyWhenAllowed) {
  const std::string png = text_of(encode_png(test_pattern(6, 6)));
  const auto path = shard(
      sample("good") +                                                                       //
      tar_member("fake.png", "GIF89a") + tar_member("fake.json", fields_of("x")) +           //
      tar_member("cut.png", png.substr(0, 60)) + tar_member("cut.json", fields_of("x")) +    //
      tar_member("nocaption.png", png) + tar_member("nocaption.json", R"({"group":"g"})") +  //
      tar_member("notjson.png", png) + tar_member("notjson.json", "{caption") +              //
      tar_member("list.png", png) + tar_member("list.json", "[1]") +                         //
      tar_member("object.png", png) + tar_member("object.json", R"({"caption":{"en":"x"}})") +
      tar_member("bytes.png", png) + tar_member("bytes.json", fields_of("\xFF")) +
      tar_member("alone.png", png) + tar_member("blind.json", fields_of("x")));

  const Dataset dataset({path}, kSkip);

  EXPECT_EQ(dataset.size(), 1);
  EXPECT_EQ(dataset.get(0).key, "good");
  EXPECT_EQ(dataset.bad().count, 9);
  const std::vector<std::vector<std::string>> expected = {
      {"fake.png", "neither"},
      {"cut.png", "damaged PNG"},
      {"notjson.json", "not JSON"},
      {"list.json", "object"},
      {"bytes.json", "not JSON"},
      {"blind.json", "has no picture"},
      {"sample nocaption", "\"caption\" is missing or empty; there is group"},
      {"sample object", "\"caption\" is missing or empty; there is none"},
      {"sample alone", "\"caption\" is missing or empty; there is none"}};
  ASSERT_EQ(dataset.bad().messages.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    expect_contains(dataset.bad().messages[i], {path});
    expect_contains(dataset.bad().messages[i], expected[i]);
  }
  EXPECT_THROW(Dataset({path}), DataError);
}

TEST_F(Shards, ASplitWhoseSamplesAreAllBadIsRefused) {
  const auto path = shard(tar_member("a.png", "no") + tar_member("a.json", fields_of("x")));
  expect_contains(error_of(path, kSkip), {"no samples", "1 bad", "a.png"});
}

TEST_F(Shards, ARepeatedMemberIsBad) {
  const auto path = shard(sample("a", "first") + sample("a", "second"));
  expect_contains(error_of(path), {"a.png", "repeats"});
  const Dataset dataset({path}, kSkip);
  EXPECT_EQ(dataset.bad().count, 2);
  EXPECT_EQ(dataset.get(0).caption(), "first");
}

TEST_F(Shards, RequiredFieldsAreDemanded) {
  DatasetOptions options;
  options.required_fields = {"caption", "group"};
  expect_contains(error_of(shard(sample("a")), options),
                  {"sample a", "\"group\" is missing", "there is caption"});
}

TEST_F(Shards, WithoutDecodingOnOpenDamageFurtherInIsFoundByGet) {
  const std::string png = text_of(encode_png(test_pattern(6, 6)));
  const auto path =
      shard(tar_member("a.png", png.substr(0, 60)) + tar_member("a.json", fields_of("x")));
  const Dataset dataset({path}, {.check = "headers"});
  EXPECT_EQ(dataset.size(), 1);
  EXPECT_THROW(dataset.get(0), DataError);
}

TEST_F(Shards, FingerprintDependsOnContentsAndNotOnNames) {
  const auto first = shard(sample("a", "x"), "1.tar");
  const auto copy = shard(sample("a", "x"), "2.tar");
  const auto other = shard(sample("a", "y"), "3.tar");
  const std::string fingerprint = Dataset({first}).fingerprint();
  EXPECT_EQ(fingerprint.size(), 32U);
  EXPECT_EQ(fingerprint, Dataset({copy}).fingerprint());
  EXPECT_NE(fingerprint, Dataset({other}).fingerprint());
  EXPECT_NE(Dataset({first, other}).fingerprint(), Dataset({other, first}).fingerprint());
}

TEST_F(Shards, ThreadsReadAtTheSameTime) {
  const Dataset dataset({kTest});
  std::vector<std::vector<uint8_t>> alone;
  for (int64_t i = 0; i < dataset.size(); ++i) alone.push_back(dataset.get(i).image.rgb);
  std::atomic<int> wrong{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int64_t i = 0; i < dataset.size(); ++i)
        if (dataset.get(i).image.rgb != alone[static_cast<size_t>(i)]) ++wrong;
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST_F(Shards, RangesAndWildcardsExpandToSortedFiles) {
  shard("", "x-09.tar");
  shard("", "x-10.tar");
  EXPECT_EQ(expand_paths({folder_.file("x-{09..10}.tar")}),
            (std::vector<std::string>{folder_.file("x-09.tar"), folder_.file("x-10.tar")}));
  EXPECT_EQ(expand_paths({folder_.file("x-*.tar")}),
            (std::vector<std::string>{folder_.file("x-09.tar"), folder_.file("x-10.tar")}));
  EXPECT_THROW(expand_paths({"x-{10..09}.tar"}), DataError);
}

}  // namespace
}  // namespace espalier
