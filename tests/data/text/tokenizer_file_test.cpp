// tokenizer.json files that are not as they should be, and those that are read all the same.
#include <functional>

#include <nlohmann/json.hpp>

#include "data/errors.h"
#include "data/text/byte_pair_tokenizer.h"
#include "tests/data/test_files.h"

namespace espalier {
namespace {

using nlohmann::json;

class TokenizerFile : public ::testing::Test {
 protected:
  using Change = std::function<void(json&)>;

  // The committed file with one change.
  std::string changed(const Change& change) const {
    json root = json::parse(read_file(source_path("tests/data/golden/trained_tokenizer.json")));
    change(root);
    return root.dump();
  }
  std::string error_of_text(const std::string& text) const {
    return message_of<DataError>([&] { BytePairTokenizer::load(folder_.write("t.json", text)); });
  }
  std::string error_of(const Change& change) const { return error_of_text(changed(change)); }
  BytePairTokenizer read(const Change& change) const {
    return BytePairTokenizer::parse(changed(change), "t.json");
  }

  TemporaryFolder folder_;
};

json split(const std::string& pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

json then_bytes(const json& first) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {first, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
}

TEST_F(TokenizerFile, ThatIsMissingOrNotJsonIsNamed) {
  expect_contains(message_of<DataError>([] { BytePairTokenizer::load("/nonexistent/t.json"); }),
                  {"/nonexistent/t.json"});
  expect_contains(error_of_text("{"), {"t.json", "not JSON"});
  expect_contains(error_of_text("[]"), {"t.json", "model"});
  expect_contains(error_of_text(R"({"model": 3})"), {"t.json", "model is 3"});
}

TEST_F(TokenizerFile, ThatAsksForAnotherModelIsRefusedNotIgnored) {
  expect_contains(error_of([](json& r) { r["model"]["type"] = "Unigram"; }),
                  {"t.json", "model.type is Unigram", "expected BPE"});
  expect_contains(error_of([](json& r) { r["model"]["type"] = "WordPiece"; }), {"WordPiece"});
  expect_contains(error_of([](json& r) { r["model"]["dropout"] = 0.1; }),
                  {"model.dropout is 0.1", "expected null"});
  expect_contains(error_of([](json& r) { r["model"]["byte_fallback"] = true; }), {"byte_fallback"});
  expect_contains(error_of([](json& r) { r["model"]["end_of_word_suffix"] = "</w>"; }),
                  {"end_of_word_suffix is \"</w>\""});
}

TEST_F(TokenizerFile, ThatNormalizesOrCutsOtherwiseIsRefusedNotIgnored) {
  expect_contains(error_of([](json& r) {
                    r["normalizer"] = {
                        {"type", "Sequence"},
                        {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}};
                  }),
                  {"normalizer.normalizers[1].type is Lowercase", "expected NFC"});
  expect_contains(error_of([](json& r) {
                    r["pre_tokenizer"] = {{"type", "Metaspace"}};
                  }),
                  {"pre_tokenizer.type is Metaspace", "ByteLevel"});
  expect_contains(error_of([](json& r) { r["pre_tokenizer"] = nullptr; }),
                  {"pre_tokenizer is null"});
  expect_contains(error_of([](json& r) {
                    r["pre_tokenizer"] = then_bytes(split("x"));
                    r["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed";
                  }),
                  {"pre_tokenizer.pretokenizers[0].behavior is \"Removed\"", "expected Isolated"});
  expect_contains(error_of([](json& r) {
                    r["pre_tokenizer"] = then_bytes(split("x"));
                    r["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {{"String", "x"}};
                  }),
                  {"pattern is {\"String\":\"x\"}", "a Regex"});
  expect_contains(error_of([](json& r) { r["pre_tokenizer"] = then_bytes(split(R"(\w+)")); }),
                  {"pre_tokenizer.pretokenizers[0].pattern", "\\w"});
  expect_contains(error_of([](json& r) { r["decoder"] = {{"type", "Metaspace"}}; }), {"decoder"});
  expect_contains(error_of([](json& r) {
                    r["post_processor"] = {{"type", "BertProcessing"}};
                  }),
                  {"post_processor.type is BertProcessing"});
}

TEST_F(TokenizerFile, WithAnInconsistentVocabularyIsRefused) {
  expect_contains(error_of([](json& r) { r["model"]["vocab"].erase("e"); }), {"ids without gaps"});
  expect_contains(error_of([](json& r) { r["model"]["vocab"]["e"] = 5; }), {"id 5 occurs twice"});
  expect_contains(error_of([](json& r) { r["model"]["vocab"]["e"] = "x"; }),
                  {"model.vocab[\"e\"] is \"x\"", "an integer"});
  expect_contains(error_of([](json& r) { r["model"]["merges"].push_back("q zzz"); }),
                  {"a merge", "zzz"});
  expect_contains(error_of([](json& r) { r["model"]["merges"].push_back(7); }),
                  {"model.merges[", "is 7"});
  expect_contains(error_of([](json& r) { r["model"]["vocab"]["汉"] = 800; }), {"byte alphabet"});
  expect_contains(error_of([](json& r) { r["model"].erase("merges"); }), {"merges"});
  expect_contains(error_of([](json& r) {
                    r["model"]["vocab"]["zq"] = r["model"]["vocab"]["e"];
                    r["model"]["vocab"].erase("e");
                    r["model"]["merges"] = json::array();
                  }),
                  {"without a token for byte 101"});
}

TEST_F(TokenizerFile, WithAnAddedTokenThatIsNoneIsRefused) {
  expect_contains(error_of([](json& r) { r["added_tokens"][0]["content"] = "<other>"; }),
                  {"<other>", "<pad>"});
  expect_contains(error_of([](json& r) { r["added_tokens"][0]["content"] = ""; }),
                  {"added_tokens[0].content"});
  expect_contains(error_of([](json& r) { r["added_tokens"][0]["id"] = -1; }),
                  {"added_tokens[0].id is -1"});
  expect_contains(error_of([](json& r) { r["added_tokens"][0].erase("id"); }), {"t.json", "id"});
}

TEST_F(TokenizerFile, OfABatchThatWasCutAndFilledUpIsReadWithoutThat) {
  const auto tokenizer = read([](json& r) {
    r["truncation"] = {{"max_length", 2}};
    r["padding"] = {{"pad_id", 0}};
  });
  EXPECT_EQ(tokenizer.encode("one two three"), read([](json&) {}).encode("one two three"));
  EXPECT_EQ(json::parse(tokenizer.to_text())["truncation"], nullptr);
}

TEST_F(TokenizerFile, SaysWhichTokenBeginsATextThroughItsTemplate) {
  const auto tokenizer = read([](json& r) {
    r["post_processor"] = {{"type", "TemplateProcessing"},
                           {"single",
                            {{{"SpecialToken", {{"id", "<begin>"}, {"type_id", 0}}}},
                             {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                             {{"SpecialToken", {{"id", "<end>"}, {"type_id", 0}}}}}},
                           {"special_tokens",
                            {{"<begin>", {{"id", "<begin>"}, {"ids", {1}}}},
                             {"<end>", {{"id", "<end>"}, {"ids", {2}}}}}}};
  });
  EXPECT_EQ(tokenizer.begin_id(), 1);
  EXPECT_EQ(read([](json&) {}).begin_id(), std::nullopt);
}

TEST_F(TokenizerFile, ThatIsReadAndWrittenMeansTheSame) {
  const std::string text = "step 12 Cafe\u0301 [R] <mask> espalier<|eot_id|>";
  for (const std::string name : {"gpt2", "qwen2", "llama3", "prefix_space"}) {
    const auto read =
        BytePairTokenizer::load(source_path("tests/parity/golden/tokenizers/" + name + ".json"));
    const auto again = BytePairTokenizer::parse(read.to_text(), "again.json");
    EXPECT_EQ(again.to_text(), read.to_text()) << name;
    for (const auto special : {SpecialTokens::kAsText, SpecialTokens::kParse})
      EXPECT_EQ(again.encode(text, special), read.encode(text, special)) << name;
  }
}

}  // namespace
}  // namespace espalier
