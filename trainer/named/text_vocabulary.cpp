#include "trainer/named/text_vocabulary.h"

#include <set>
#include <utility>

#include "data/text/utf8.h"
#include "trainer/named/spread_indices.h"

namespace espalier {
namespace {

// How often a phrase is counted: enough for every word of it to get tokens of its own.
constexpr int kPhraseRepeats = 20;
constexpr size_t kMostBytes = size_t{16} << 10;  // of one text

std::string cut(const std::string& text) {
  return text.size() <= kMostBytes ? text : replace_invalid_utf8(text.substr(0, kMostBytes));
}

}  // namespace

std::vector<std::string> SequenceTokens::special_tokens() {
  return {"<end>", "<caption>", "<question>", "<answer>", "<draw>", "<null>"};
}

SequenceTokens SequenceTokens::of(const BytePairTokenizer& text) {
  return {text.id_of("<end>"),    text.id_of("<caption>"), text.id_of("<question>"),
          text.id_of("<answer>"), text.id_of("<draw>"),    text.id_of("<null>")};
}

TextVocabulary::TextVocabulary(BytePairTokenizer tokenizer)
    : tokenizer_(std::move(tokenizer)), tokens_(SequenceTokens::of(tokenizer_)) {}

std::vector<int64_t> TextVocabulary::encode(const std::string& text) const {
  const std::vector<int32_t> ids = tokenizer_.encode(text);
  return {ids.begin(), ids.end()};
}

std::string TextVocabulary::decode(const std::vector<int32_t>& ids) const {
  return replace_invalid_utf8(tokenizer_.decode(ids));
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
      for (const Message& message : sample.messages) texts.push_back(cut(message.text));
    }
    for (const std::string& field : config.frequent_fields) {
      frequent.insert(sample.texts(field).begin(), sample.texts(field).end());
    }
  }
  for (int repeat = 0; repeat < kPhraseRepeats; ++repeat) {
    texts.insert(texts.end(), frequent.begin(), frequent.end());
    texts.insert(texts.end(), config.phrases.begin(), config.phrases.end());
  }
  return TextVocabulary(BytePairTokenizer::train(texts, static_cast<int>(config.vocabulary_size),
                                                 SequenceTokens::special_tokens()));
}

}  // namespace espalier
