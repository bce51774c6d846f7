#include "trainer/named/text_vocabulary.h"

#include <algorithm>
#include <set>
#include <utility>

#include "data/text/byte_pair_tokenizer.h"
#include "data/text/utf8.h"
#include "trainer/errors.h"
#include "trainer/named/spread_indices.h"

namespace espalier {
namespace {

// How often a phrase is counted: enough for every word of it to get tokens of its own.
constexpr int kPhraseRepeats = 20;
constexpr size_t kMostBytes = size_t{16} << 10;  // of one text

std::string cut(const std::string& text) {
  return text.size() <= kMostBytes ? text : replace_invalid_utf8(text.substr(0, kMostBytes));
}

// Names of the tokens that structure sequences, in the order of SequenceTokens.
std::vector<std::string> structure_of(const TextConfig& config) {
  std::vector<std::string> names = SequenceTokens::special_tokens();
  if (!config.end_token.empty()) names[0] = config.end_token;
  return names;
}

std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kMost = 8;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kMost) text += ", … (" + std::to_string(names.size()) + ")";
  return text.empty() ? "none" : text;
}

std::shared_ptr<const TextTokenizer> with_structure(std::shared_ptr<const TextTokenizer> tokenizer,
                                                    const TextConfig& config) {
  if (!config.end_token.empty() && !tokenizer->find_special(config.end_token)) {
    throw ConfigError("text." + config.name + ".end_token = \"" + config.end_token +
                      "\": " + config.file + " has no such special token; it has " +
                      some_of(tokenizer->special_tokens()));
  }
  std::vector<std::string> missing;
  for (const std::string& name : structure_of(config)) {
    if (!tokenizer->find_special(name)) missing.push_back(name);
  }
  return missing.empty() ? tokenizer : tokenizer->with_special_tokens(missing);
}

SequenceTokens tokens_of(const TextTokenizer& tokenizer, const TextConfig& config) {
  std::vector<int64_t> ids;
  for (const std::string& name : structure_of(config)) {
    ids.push_back(tokenizer.find_special(name).value());
  }
  return {ids[0], ids[1], ids[2], ids[3], ids[4], ids[5]};
}

}  // namespace

std::vector<std::string> SequenceTokens::special_tokens() {
  return {"<end>", "<caption>", "<question>", "<answer>", "<draw>", "<null>"};
}

TextVocabulary::TextVocabulary(std::shared_ptr<const TextTokenizer> tokenizer,
                               const TextConfig& config)
    : tokenizer_(with_structure(std::move(tokenizer), config)),
      tokens_(tokens_of(*tokenizer_, config)) {}

std::vector<int64_t> TextVocabulary::encode(const std::string& text) const {
  const std::vector<int32_t> ids = tokenizer_->encode(text);
  return {ids.begin(), ids.end()};
}

std::string TextVocabulary::decode(const std::vector<int32_t>& ids) const {
  std::vector<int32_t> known;
  for (const int32_t id : ids) {
    if (id < tokenizer_->vocabulary_size()) known.push_back(id);
  }
  return replace_invalid_utf8(tokenizer_->decode(known));
}

TextVocabulary learn_vocabulary(const TextConfig& config, const ImageSplit& train) {
  std::vector<std::string> texts;
  std::set<std::string> frequent;
  // Enough to learn merges from, however many or long the texts are.
  constexpr int64_t kMostSamples = 100000;
  for (const int64_t i : spread_indices(kMostSamples, train.size())) {
    const Sample sample = train.describe(i);
    for (const std::string& field : config.fields) {
      for (const std::string& text : sample.texts(field)) texts.push_back(cut(text));
      if (field != "messages") continue;
      for (const Message& message : sample.messages) texts.push_back(cut(message.text()));
    }
    for (const std::string& field : config.frequent_fields) {
      frequent.insert(sample.texts(field).begin(), sample.texts(field).end());
    }
  }
  for (int repeat = 0; repeat < kPhraseRepeats; ++repeat) {
    texts.insert(texts.end(), frequent.begin(), frequent.end());
    texts.insert(texts.end(), config.phrases.begin(), config.phrases.end());
  }
  return {std::make_shared<BytePairTokenizer>(BytePairTokenizer::train(
              texts, static_cast<int>(config.vocabulary_size), SequenceTokens::special_tokens())),
          config};
}

}  // namespace espalier
