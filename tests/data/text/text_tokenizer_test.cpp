// Tokenizers that people bring: the committed ones of tests/parity/golden/tokenizers, made by
// public libraries.
#include "data/text/text_tokenizer.h"

#include <nlohmann/json.hpp>

#include "data/errors.h"
#include "data/order/random.h"
#include "data/text/byte_pair_tokenizer.h"
#include "data/text/utf8.h"
#include "tests/data/test_files.h"

namespace espalier {
namespace {

using Ids = std::vector<int32_t>;

std::string brought(const std::string& name) {
  return source_path("tests/parity/golden/tokenizers/" + name);
}

// ids.json was written by the public libraries (tests/parity/dump_tokenizers.py).
TEST(BroughtTokenizer, GivesTheIdsOfThePublicLibraries) {
  const auto golden = nlohmann::json::parse(read_file(brought("ids.json")));
  int compared = 0;
  for (const auto& [name, entries] : golden.items()) {
    if (name == "versions") continue;
    const auto tokenizer = open_text_tokenizer(brought(name));
    const auto* byte_pairs = dynamic_cast<const BytePairTokenizer*>(tokenizer.get());
    for (const auto& expected : entries) {
      const std::string text = expected["text"];
      Ids ids = tokenizer->encode(text);
      EXPECT_EQ(ids, expected["ids"].get<Ids>()) << name << ": " << expected["text"];
      if (byte_pairs != nullptr) {
        ids = byte_pairs->encode(text, SpecialTokens::kParse);
        EXPECT_EQ(ids, expected["parsed"].get<Ids>()) << name << ": " << expected["text"];
      }
      EXPECT_EQ(replace_invalid_utf8(tokenizer->decode(ids)), expected["decoded"]) << name;
      ++compared;
    }
  }
  EXPECT_GE(compared, 300);
}

TEST(BroughtTokenizer, IsFoundInAFolderOfHuggingFace) {
  TemporaryFolder folder;
  expect_contains(message_of<DataError>([&] { open_text_tokenizer(folder.file("")); }),
                  {"no tokenizer.json, tokenizer.model or spiece.model"});
  folder.write("vocab.json", "{}");
  expect_contains(message_of<DataError>([&] { open_text_tokenizer(folder.file("")); }),
                  {"save_pretrained"});
  folder.write("tokenizer.model", read_file(brought("llama.model")));
  EXPECT_EQ(open_text_tokenizer(folder.file(""))->extension(), ".model");
  folder.write("tokenizer.json", read_file(brought("gpt2.json")));
  EXPECT_EQ(open_text_tokenizer(folder.file(""))->extension(), ".json");
}

TEST(BroughtTokenizer, OfNoKnownKindIsNamed) {
  TemporaryFolder folder;
  expect_contains(message_of<DataError>([&] { open_text_tokenizer(folder.file("none.json")); }),
                  {"none.json", "no such file"});
  expect_contains(message_of<DataError>([&] { open_text_tokenizer(folder.write("v.txt", "x")); }),
                  {"v.txt", "ends in \".txt\""});
  for (const std::string& bytes :
       {std::string(), std::string("no model"), std::string(300, '\xFF')})
    expect_contains(
        message_of<DataError>([&] { open_text_tokenizer(folder.write("m.model", bytes)); }),
        {"m.model", "not a SentencePiece model"});
}

TEST(BroughtTokenizer, TakesAnyBytes) {
  CounterRng rng(5, 0);
  for (const std::string name :
       {"gpt2.json", "qwen2.json", "llama3.json", "llama.model", "t5.model"}) {
    const auto tokenizer = open_text_tokenizer(brought(name));
    for (int trial = 0; trial < 300; ++trial) {
      std::string bytes(rng.below(40), '\0');
      for (char& byte : bytes) byte = static_cast<char>(rng.below(256));
      const std::string back = tokenizer->decode(tokenizer->encode(bytes));
      const bool keeps_bytes = name == "gpt2.json" || name == "llama3.json";
      EXPECT_TRUE(back == bytes || !keeps_bytes) << name;
    }
  }
}

TEST(BroughtTokenizer, NormalizesAroundBytesThatAreNotUtf8) {
  const auto tokenizer = open_text_tokenizer(brought("qwen2.json"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("e\u0301\xFF"
                                                "e\u0301\xC3")),
            "\u00e9\xFF\u00e9\xC3");
}

TEST(SentencePiece, TakesMoreControlSymbolsThatTextsNeverGive) {
  for (const std::string name : {"llama.model", "t5.model"}) {
    const auto tokenizer = open_text_tokenizer(brought(name));
    const auto more = tokenizer->with_special_tokens({"<draw>", "<null>"});
    const int size = tokenizer->vocabulary_size();
    EXPECT_EQ(more->vocabulary_size(), size + 2);
    EXPECT_EQ(more->find_special("<null>"), size + 1);
    for (const std::string text : {"a <draw> step", "<null>", "digits 123, emoji \U0001F600"})
      EXPECT_EQ(more->encode(text), tokenizer->encode(text)) << name;
    EXPECT_EQ(more->decode({size, size + 1}), "");
    EXPECT_EQ(parse_text_tokenizer(more->to_text(), "m.model")->find_special("<draw>"), size);
    EXPECT_THROW(more->with_special_tokens({"<draw>"}), DataError);
    EXPECT_THROW(more->decode({size + 2}), std::out_of_range);
  }
}

TEST(SentencePiece, KnowsItsControlAndUserDefinedSymbols) {
  const auto tokenizer = open_text_tokenizer(brought("t5.model"));
  EXPECT_EQ(tokenizer->find_special("</s>"), 2);
  EXPECT_TRUE(tokenizer->find_special("<sep>").has_value());
  EXPECT_EQ(tokenizer->find_special("<nothing>"), std::nullopt);
  EXPECT_EQ(tokenizer->begin_id(), 1);
  EXPECT_EQ(tokenizer->special_tokens(), (std::vector<std::string>{"<s>", "</s>", "<pad>"}));
}

}  // namespace
}  // namespace espalier
