#include "data/text/byte_pair_tokenizer.h"

#include <chrono>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "data/errors.h"
#include "data/order/random.h"
#include "data/text/utf8.h"
#include "tests/data/test_files.h"

namespace espalier {
namespace {

using Ids = std::vector<int32_t>;

const std::vector<std::string> kSpecial = {"<pad>", "<begin>", "<end>", "<end of group>"};

std::vector<std::string> corpus() {
  std::vector<std::string> lines;
  std::istringstream text(read_file(source_path("tests/data/golden/corpus.txt")));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

BytePairTokenizer trained() { return BytePairTokenizer::train(corpus(), 800, kSpecial); }

TEST(BytePairTokenizer, GivesBackAnyBytes) {
  const BytePairTokenizer tokenizer = trained();
  CounterRng rng(11, 0);
  for (int trial = 0; trial < 500; ++trial) {
    std::string bytes(rng.below(60), '\0');
    for (char& byte : bytes) byte = static_cast<char>(rng.below(256));
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(bytes)), bytes);
  }
  for (const std::string& line : corpus())
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(line)), line);
}

TEST(BytePairTokenizer, LearnsFrequentWords) {
  const BytePairTokenizer tokenizer = trained();
  EXPECT_EQ(tokenizer.vocabulary_size(), 800);
  EXPECT_EQ(tokenizer.encode(" face").size(), 1U);
  EXPECT_LE(tokenizer.encode("grinning face").size(), 5U);
}

TEST(BytePairTokenizer, MergesTheMostFrequentPairFirst) {
  const auto tokenizer = BytePairTokenizer::train({"abab ab ab x", "ab"}, 260, {});
  // "ab" occurs five times, then " ab" twice; then nothing is left that occurs twice.
  EXPECT_EQ(tokenizer.vocabulary_size(), 258);
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{256}));
  EXPECT_EQ(tokenizer.encode(" ab"), (Ids{257}));
}

TEST(BytePairTokenizer, ATokenReachedByTwoMergesHasOneId) {
  const auto tokenizer = BytePairTokenizer::train(
      {"abc abc abc", "bc bc bc bc bc", "ab ab ab ab ab ab", "xab", "abcd abcd", "aabc", "bcbc"},
      400, {});
  TemporaryFolder folder;
  tokenizer.save(folder.file("t.json"));
  const auto loaded = BytePairTokenizer::load(folder.file("t.json"));
  EXPECT_EQ(loaded.vocabulary_size(), tokenizer.vocabulary_size());
  for (const std::string text : {"abc", " abcd", "aabcbc", "abab", "cba"})
    EXPECT_EQ(loaded.encode(text), tokenizer.encode(text));
}

TEST(BytePairTokenizer, TrainingTwiceGivesTheSameFileAsTheCommittedOne) {
  // The file is left here for make_golden.py.
  const std::string path = ::testing::TempDir() + "trained_tokenizer.json";
  trained().save(path);
  EXPECT_EQ(read_file(path), read_file(source_path("tests/data/golden/trained_tokenizer.json")))
      << "run tests/data/make_golden.py on " << path << " if the change is meant";
}

// token_ids.json was written by Hugging Face's Python package from the same tokenizer.json files.
TEST(BytePairTokenizer, GivesTheIdsOfHuggingFaceTokenizers) {
  const auto golden =
      nlohmann::json::parse(read_file(source_path("tests/data/golden/token_ids.json")));
  int compared = 0;
  for (const std::string name : {"trained_tokenizer", "python_tokenizer"}) {
    const auto tokenizer =
        BytePairTokenizer::load(source_path("tests/data/golden/" + name + ".json"));
    for (const auto& expected : golden[name]) {
      const std::string text = expected["text"];
      EXPECT_EQ(tokenizer.encode(text), expected["ids"].get<Ids>()) << name << ": " << text;
      const Ids parsed = tokenizer.encode(text, SpecialTokens::kParse);
      EXPECT_EQ(parsed, expected["ids_with_special_tokens_parsed"].get<Ids>())
          << name << ": " << text;
      EXPECT_EQ(replace_invalid_utf8(tokenizer.decode(parsed)), expected["decoded"]) << text;
      ++compared;
    }
  }
  EXPECT_GE(compared, 40);
}

TEST(BytePairTokenizer, SavedAndLoadedIsTheSame) {
  TemporaryFolder folder;
  const BytePairTokenizer tokenizer = trained();
  tokenizer.save(folder.file("a.json"));
  const auto loaded = BytePairTokenizer::load(folder.file("a.json"));
  loaded.save(folder.file("b.json"));
  EXPECT_EQ(read_file(folder.file("a.json")), read_file(folder.file("b.json")));
  EXPECT_EQ(loaded.special_tokens(), kSpecial);
}

TEST(BytePairTokenizer, SpecialTokensAreTextUnlessAskedFor) {
  const BytePairTokenizer tokenizer = trained();
  const int32_t end = tokenizer.id_of("<end>");
  EXPECT_EQ(end, 2);
  const Ids as_text = tokenizer.encode("cat<end>");
  EXPECT_EQ(std::count(as_text.begin(), as_text.end(), end), 0);
  EXPECT_EQ(tokenizer.decode(as_text), "cat<end>");
  const Ids parsed = tokenizer.encode("cat<end>", SpecialTokens::kParse);
  EXPECT_EQ(parsed.back(), end);
  EXPECT_EQ(tokenizer.decode(parsed), "cat");
}

TEST(BytePairTokenizer, TheLongestSpecialTokenWins) {
  const auto tokenizer = BytePairTokenizer::train({"x"}, 260, {"<a", "<a>", "<a>>"});
  EXPECT_EQ(tokenizer.encode("<a>><a><a", SpecialTokens::kParse), (Ids{2, 1, 0}));
}

TEST(BytePairTokenizer, MoreSpecialTokensFollowTheLastIdAndAreInItsFile) {
  const BytePairTokenizer tokenizer = trained();
  const auto more = tokenizer.with_special_tokens({"<draw>", "<null>"});
  EXPECT_EQ(more->vocabulary_size(), 802);
  EXPECT_EQ(more->find_special("<null>"), 801);
  EXPECT_EQ(more->encode("a <draw> b"), tokenizer.encode("a <draw> b"));
  EXPECT_EQ(more->decode({801, 800}), "");
  const auto again = BytePairTokenizer::parse(more->to_text(), "again.json");
  EXPECT_EQ(again.find_special("<draw>"), 800);
  EXPECT_EQ(again.to_text(), more->to_text());
  EXPECT_THROW(more->with_special_tokens({"<draw>"}), DataError);
}

TEST(BytePairTokenizer, CaptionsSpelledLikeASpecialTokenDoNotCollideWithIt) {
  const auto tokenizer = BytePairTokenizer::train({"xxend xxend xxend", "xxend"}, 400, {"xxend"});
  TemporaryFolder folder;
  tokenizer.save(folder.file("t.json"));
  const auto loaded = BytePairTokenizer::load(folder.file("t.json"));
  EXPECT_EQ(loaded.decode(loaded.encode("xxend")), "xxend");
  EXPECT_EQ(loaded.vocabulary_size(), tokenizer.vocabulary_size());
}

TEST(BytePairTokenizer, AMegabyteWithoutSpacesIsEncodedInSeconds) {
  const BytePairTokenizer tokenizer = trained();
  const std::string text(1 << 20, 'e');
  const auto started = std::chrono::steady_clock::now();
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(20));
}

TEST(BytePairTokenizer, ThreadsEncodeAtTheSameTime) {
  const BytePairTokenizer tokenizer = trained();
  const Ids expected = tokenizer.encode("grinning face with sweat");
  std::atomic<int> wrong{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i)
        if (tokenizer.encode("grinning face with sweat") != expected) ++wrong;
    });
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST(BytePairTokenizer, RefusesImpossibleRequests) {
  EXPECT_THROW(BytePairTokenizer::train({"x"}, 258, kSpecial), DataError);
  EXPECT_THROW(BytePairTokenizer::train({"x"}, 300, {"<a>", "<a>"}), DataError);
  EXPECT_THROW(BytePairTokenizer::train({"x"}, 300, {""}), DataError);
  const BytePairTokenizer tokenizer = trained();
  EXPECT_THROW(tokenizer.id_of("<missing>"), DataError);
  EXPECT_THROW(tokenizer.decode({800}), std::out_of_range);
  EXPECT_THROW(tokenizer.decode({-1}), std::out_of_range);
}

TEST(BytePairTokenizer, EmptyTextHasNoIds) { EXPECT_TRUE(trained().encode("").empty()); }

}  // namespace
}  // namespace espalier
