// Every form that people's data come in, read as the same samples.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "data/errors.h"
#include "data/images/image_codec.h"
#include "data/images/webp_codec.h"
#include "data/shards/tar_writer.h"
#include "data/sources/dataset.h"
#include "tests/data/test_files.h"
#include "tests/data/test_images.h"

namespace espalier {
namespace {

class Forms : public ::testing::Test {
 protected:
  Forms() { std::filesystem::create_directories(folder_.file("pictures/cats")); }

  std::string png() const { return text_of(encode_png(test_pattern(6, 6))); }
  Dataset open(const std::string& path, DatasetOptions options = {}) const {
    options.cache = folder_.file("cache");
    return Dataset({path}, options);
  }
  std::string error_of(const std::string& path, const DatasetOptions& options = {}) const {
    return message_of<DataError>([&] { open(path, options); });
  }
  // Names of the files in the cache that end so.
  int64_t kept(const std::string& ending) const {
    int64_t count = 0;
    std::error_code none;
    for (const auto& found : std::filesystem::directory_iterator(folder_.file("cache"), none)) {
      count += found.path().string().ends_with(ending);
    }
    return count;
  }
  // Texts, and pictures by their number.
  static std::string said(const Message& message) {
    std::string all;
    for (const MessagePart& part : message.parts) {
      all += part.is_picture() ? "[" + std::to_string(part.picture) + "]" : part.text;
    }
    return all;
  }
  TemporaryFolder folder_;
};

TEST_F(Forms, AFolderOfPicturesWithTextBesideThem) {
  folder_.write("pictures/b.png", png());
  folder_.write("pictures/b.txt", "  a dog\n");
  folder_.write("pictures/cats/a.webp", text_of(encode_webp(test_pattern(6, 6), 90)));
  folder_.write("pictures/cats/a.json", R"({"caption":"a cat","weight":3.5})");
  folder_.write("pictures/README.md", "of pets");
  folder_.write("pictures/LICENSE.txt", "CC0");
  const Dataset dataset = open(folder_.file("pictures"));
  ASSERT_EQ(dataset.size(), 2);
  EXPECT_EQ(dataset.get(0).caption(), "a dog");
  EXPECT_EQ(dataset.get(1).caption(), "a cat");
  EXPECT_EQ(dataset.get(1).text("weight"), "3.5");
  EXPECT_EQ(dataset.get(1).text("folder"), "cats");
  EXPECT_EQ(dataset.get(0).image.rgb, test_pattern(6, 6).rgb);
  ASSERT_EQ(dataset.notes().size(), 2U);
  expect_contains(dataset.notes()[0], {"1 file .md is not read"});
  expect_contains(dataset.notes()[1], {"LICENSE.txt"});
}

TEST_F(Forms, ACsvTableWithQuotesCommasAndOtherNames) {
  folder_.write("pictures/a.png", png());
  const auto path = folder_.write("index.csv",
                                  "file_name,label,split\n"
                                  "pictures/a.png,\"red, \"\"round\"\" ball\",7\n");
  EXPECT_NE(error_of(path).find("\"caption\" is missing or empty; there is label, split"),
            std::string::npos);
  DatasetOptions options;
  options.rename = {{"label", "caption"}};
  const Dataset dataset = open(path, options);
  ASSERT_EQ(dataset.size(), 1);
  EXPECT_EQ(dataset.get(0).caption(), "red, \"round\" ball");
  EXPECT_EQ(dataset.get(0).text("split"), "7");
  EXPECT_EQ(dataset.get(0).image.width, 6);
}

TEST_F(Forms, ATableWhosePictureIsMissingNamesRowAndPath) {
  folder_.write("pictures/a.png", png());
  const auto path = folder_.write("index.csv", "image,caption\npictures/a.png,x\nnone.png,y\n");
  expect_contains(error_of(path), {"index.csv: row 3", "none.png", "image_root"});
  const auto other = folder_.write("other.csv", "photo,caption\npictures/a.png,x\n");
  expect_contains(error_of(other), {"no picture", "photo", "data.NAME.image_field"});
  DatasetOptions options;
  options.image_field = "photo";
  EXPECT_EQ(open(other, options).size(), 1);
  const auto web = folder_.write("web.csv", "image,caption\nhttps://example.org/a.png,x\n");
  expect_contains(error_of(web), {"is an address", "fetch them first"});
}

TEST_F(Forms, ConversationsInBothSpellings) {
  folder_.write("pictures/a.png", png());
  const auto path = folder_.write(
      "talk.jsonl",
      R"({"image":"pictures/a.png","messages":[{"role":"user","content":[{"type":"image"},{"type":"text","text":"What is this?"}]},{"role":"assistant","content":"A ball."}]})"
      "\n"
      R"({"image":"pictures/a.png","conversations":[{"from":"human","value":"<image>\nColour?"},{"from":"gpt","value":"Red."}]})"
      "\n");
  DatasetOptions options;
  options.required_fields = {"messages"};
  const Dataset dataset = open(path, options);
  ASSERT_EQ(dataset.size(), 2);
  const Sample first = dataset.get(0), second = dataset.get(1);
  ASSERT_EQ(first.messages.size(), 2U);
  EXPECT_EQ(said(first.messages[0]), "[0]What is this?");
  EXPECT_EQ(said(first.messages[1]), "A ball.");
  EXPECT_EQ(second.messages[0].role, "user");
  EXPECT_EQ(said(second.messages[0]), "[0]Colour?");
  EXPECT_EQ(second.messages[1].role, "assistant");
  const auto silent = folder_.write(
      "silent.jsonl", R"({"image":"pictures/a.png","messages":[{"role":"user","content":"?"}]})");
  expect_contains(error_of(silent, options), {"\"messages\" is missing or empty"});
  const auto wrong =
      folder_.write("wrong.jsonl", R"({"image":"pictures/a.png","messages":[{"content":"?"}]})");
  expect_contains(error_of(wrong, options), {"row 1", "message 1 has no \"role\""});
}

TEST_F(Forms, ConversationsWithSeveralPicturesWhereverTheyAreShown) {
  for (const int side : {3, 4, 5}) {
    folder_.write("pictures/" + std::to_string(side) + ".png",
                  text_of(encode_png(test_pattern(side, side))));
  }
  const auto path = folder_.write(
      "talk.jsonl",
      // By marks, in order; by names, in any order; by no mark, before everything.
      R"({"image":["pictures/3.png","pictures/4.png"],"conversations":[{"from":"human","value":"<image> Darker than\n<image>?"},{"from":"gpt","value":"Yes."}]})"
      "\n"
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"Swap"},{"type":"image_url","image_url":{"url":"pictures/5.png"}}]},{"role":"assistant","content":[{"type":"image","image":"pictures/4.png"},{"type":"text","text":"Here."}]},{"role":"user","content":[{"type":"image","image":"pictures/5.png"},{"type":"text","text":"Again"}]}]})"
      "\n"
      R"({"images":["pictures/3.png","pictures/5.png"],"messages":[{"role":"assistant","content":"Two."}]})"
      "\n");
  DatasetOptions options;
  options.required_fields = {"messages"};
  const Dataset dataset = open(path, options);
  ASSERT_EQ(dataset.size(), 3);
  EXPECT_DOUBLE_EQ(dataset.pictures_per_sample(), 2.0);
  const Sample marked = dataset.get(0), named = dataset.get(1), unmarked = dataset.get(2);
  EXPECT_EQ(said(marked.messages[0]), "[0]Darker than[1]?");
  EXPECT_EQ(marked.pictures, 2);
  EXPECT_EQ(marked.image.width, 3);
  ASSERT_EQ(marked.further.size(), 1U);
  EXPECT_EQ(marked.further[0].rgb, test_pattern(4, 4).rgb);
  EXPECT_EQ(said(named.messages[0]), "Swap[0]");
  EXPECT_EQ(said(named.messages[1]), "[1]Here.");
  EXPECT_EQ(said(named.messages[2]), "[0]Again");
  EXPECT_EQ(named.image.width, 5);
  EXPECT_EQ(said(unmarked.messages[0]), "[0][1]");
  EXPECT_EQ(unmarked.messages[0].role, "user");
  // From the index, as from the source.
  EXPECT_EQ(said(open(path, options).get(1).messages[1]), "[1]Here.");
  options.required_fields = {"messages.picture"};
  expect_contains(error_of(path, options), {"\"messages.picture\" is missing or empty"});
}

TEST_F(Forms, MarksThatDoNotFitThePicturesAreNamed) {
  folder_.write("a.png", png());
  folder_.write("b.png", png());
  const auto error = [&](const std::string& images, const std::string& said) {
    const auto path = folder_.write("talk.jsonl", "{\"images\":" + images +
                                                      ",\"messages\":[{\"role\":\"assistant\","
                                                      "\"content\":" +
                                                      said + "}]}\n");
    return error_of(path);
  };
  expect_contains(error(R"(["a.png"])", R"("<image> and <image>")"),
                  {"talk.jsonl: row 1: message 1 shows picture 2; the sample has 1"});
  expect_contains(error(R"(["a.png","b.png"])", R"("<image>")"),
                  {"messages show 1 of the sample's 2 pictures"});
  expect_contains(error(R"(["a.png","b.png"])", R"([{"type":"image","image":"c.png"}])"),
                  {"shows the picture c.png; the sample has a.png, b.png"});
}

TEST_F(Forms, ATarMemberOfSeveralPictures) {
  const auto picture = [](int side) { return text_of(encode_png(test_pattern(side, side))); };
  const std::string talk =
      R"({"messages":[{"role":"user","content":"<image>"},{"role":"assistant","content":"<image><image>"}]})";
  std::string tar;
  for (const auto& [name, bytes] :
       std::vector<std::pair<std::string, std::string>>{{"a.10.png", picture(5)},
                                                        {"a.2.png", picture(4)},
                                                        {"a.0.png", picture(3)},
                                                        {"a.json", talk}}) {
    tar += tar_member(name, bytes);
  }
  DatasetOptions options;
  options.required_fields = {"messages.picture"};
  const Sample sample = open(folder_.write("s.tar", tar + tar_end()), options).get(0);
  EXPECT_EQ(sample.image.width, 3);
  ASSERT_EQ(sample.further.size(), 2U);
  EXPECT_EQ(sample.further[0].width, 4);
  EXPECT_EQ(sample.further[1].width, 5);
  EXPECT_EQ(said(sample.messages[1]), "[1][2]");
  const auto twice = folder_.write("t.tar", tar + tar_member("a.2.jpg", picture(4)) + tar_end());
  expect_contains(error_of(twice, options), {"a.2.jpg repeats the sample a"});
}

TEST_F(Forms, AJsonListOfRowsWithPicturesElsewhere) {
  folder_.write("pictures/a.png", png());
  const auto path = folder_.write("list.json", R"([{"image":"a.png","caption":"x"}])");
  expect_contains(error_of(path), {"there is no picture", "data.NAME.image_root"});
  DatasetOptions options;
  options.image_root = folder_.file("pictures");
  EXPECT_EQ(open(path, options).get(0).caption(), "x");
}

TEST_F(Forms, ACompressedTarIsUnpackedOnceAndFollowsItsSource) {
  const auto write = [&](const std::string& caption) {
    folder_.write("a.webp", text_of(encode_webp(test_pattern(6, 6), 90)));
    folder_.write("a.txt", caption);
    const std::string command =
        "tar -C " + folder_.file("") + " -czf " + folder_.file("s.tar.gz") + " a.webp a.txt";
    ASSERT_EQ(std::system(command.c_str()), 0);
  };
  write("first");
  const auto path = folder_.file("s.tar.gz");
  EXPECT_EQ(open(path).get(0).caption(), "first");
  EXPECT_EQ(open(path).get(0).image.width, 6);
  EXPECT_EQ(kept(".tar"), 1);
  EXPECT_EQ(kept(".index"), 1);
  write("second, longer");
  EXPECT_EQ(open(path).get(0).caption(), "second, longer");
  EXPECT_EQ(kept(".index"), 1);
}

TEST_F(Forms, ACutCompressedTarIsNamed) {
  folder_.write("a.png", png());
  ASSERT_EQ(
      std::system(
          ("tar -C " + folder_.file("") + " -czf " + folder_.file("s.tgz") + " a.png").c_str()),
      0);
  const std::string whole = read_file(folder_.file("s.tgz"));
  const auto path = folder_.write("cut.tgz", whole.substr(0, whole.size() / 2));
  expect_contains(error_of(path), {"cut.tgz", "damaged or cut short"});
}

TEST_F(Forms, WhatIsNoFormOfDataIsAnsweredWithWhatIs) {
  const auto picture = folder_.write("a.png", png());
  expect_contains(error_of(picture), {"is one picture", "the folder it lies in"});
  expect_contains(error_of("https://example.org/train.tar"), {"is an address"});
  expect_contains(error_of(folder_.write("a.zip", "PK")), {"not a form of data", ".parquet"});
}

TEST_F(Forms, ADamagedIndexIsMadeAnew) {
  folder_.write("a.png", png());
  folder_.write("a.txt", "a cat");
  ASSERT_EQ(
      std::system(("tar -C " + folder_.file("") + " -czf " + folder_.file("s.tgz") + " a.png a.txt")
                      .c_str()),
      0);
  const std::string fingerprint = open(folder_.file("s.tgz")).fingerprint();
  for (const auto& found : std::filesystem::directory_iterator(folder_.file("cache"))) {
    if (found.path().extension() != ".index") continue;
    std::string bytes = read_file(found.path());
    bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 1);
    std::ofstream(found.path(), std::ios::binary) << bytes;
  }
  EXPECT_EQ(open(folder_.file("s.tgz")).fingerprint(), fingerprint);
}

TEST_F(Forms, PatternsWithListsAndRanges) {
  EXPECT_EQ(expand_paths({"{a,b}-{08..10}.tar"}),
            (std::vector<std::string>{"a-08.tar", "a-09.tar", "a-10.tar", "b-08.tar", "b-09.tar",
                                      "b-10.tar"}));
}

TEST_F(Forms, ProcessesThatStartTogetherShareTheIndexing) {
  folder_.write("a.png", png());
  folder_.write("a.txt", "a cat");
  for (const char* name : {"1", "2", "3"}) {
    ASSERT_EQ(std::system(("tar -C " + folder_.file("") + " -czf " + folder_.file(name) +
                           ".tgz a.png a.txt")
                              .c_str()),
              0);
  }
  DatasetOptions options;
  options.cache = folder_.file("cache");
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        ::_exit(Dataset({folder_.file("*.tgz")}, options).size() == 3 ? 0 : 1);
      } catch (...) {
        ::_exit(2);
      }
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(kept(".index"), 3);
}

}  // namespace
}  // namespace espalier
