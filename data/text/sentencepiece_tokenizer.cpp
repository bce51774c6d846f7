#include "data/text/sentencepiece_tokenizer.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include <sentencepiece_processor.h>

#include "data/errors.h"

namespace espalier {
namespace {

std::string varint(size_t number) {
  std::string bytes;
  for (; number >= 0x80; number >>= 7) bytes += static_cast<char>(0x80 | (number & 0x7F));
  return bytes + static_cast<char>(number);
}

// One more control symbol behind a serialized model: entries of a repeated field of a protocol
// buffer may stand anywhere, in their order (sentencepiece_model.proto: ModelProto.pieces = 1 of
// SentencePiece{piece = 1, score = 2, type = 3}, where CONTROL = 3).
std::string serialized_control_symbol(const std::string& token) {
  const std::string piece = "\x0A" + varint(token.size()) + token;
  const std::string score("\x15\0\0\0\0", 5);
  const std::string type = "\x18\x03";
  return "\x0A" + varint(piece.size() + score.size() + type.size()) + piece + score + type;
}

void require(const sentencepiece::util::Status& status, const std::string& what) {
  if (!status.ok()) throw std::runtime_error(what + ": " + status.ToString());
}

}  // namespace

SentencePieceTokenizer SentencePieceTokenizer::parse(std::string bytes, const std::string& name) {
  auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto(bytes);
  if (!status.ok() || processor->GetPieceSize() == 0)
    throw DataError(name + ": not a SentencePiece model: " +
                    (status.ok() ? "it has no pieces" : status.ToString()));
  SentencePieceTokenizer tokenizer;
  tokenizer.name_ = name;
  tokenizer.bytes_ = std::move(bytes);
  tokenizer.processor_ = std::move(processor);
  return tokenizer;
}

std::vector<int32_t> SentencePieceTokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  require(processor_->Encode(text, &ids), name_ + ": encoding a text");
  return ids;
}

std::string SentencePieceTokenizer::decode(const std::vector<int32_t>& ids) const {
  std::vector<int> known;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary_size())
      throw std::out_of_range("token id " + std::to_string(id) + " is outside the vocabulary of " +
                              std::to_string(vocabulary_size()));
    if (!processor_->IsControl(id)) known.push_back(id);
  }
  std::string text;
  require(processor_->Decode(known, &text), name_ + ": decoding token ids");
  return text;
}

int SentencePieceTokenizer::vocabulary_size() const { return processor_->GetPieceSize(); }

std::optional<int32_t> SentencePieceTokenizer::find_special(std::string_view token) const {
  const int id = processor_->PieceToId(token);  // that of the unknown piece when there is none
  if (id < 0 || processor_->IdToPiece(id) != token) return std::nullopt;
  if (processor_->IsControl(id)) return id;
  // The library does not tell which symbols are user-defined; those are what texts that spell them
  // always give.
  const std::vector<int32_t> ids = encode(token);
  return std::find(ids.begin(), ids.end(), id) != ids.end() ? std::optional<int32_t>(id)
                                                            : std::nullopt;
}

std::vector<std::string> SentencePieceTokenizer::special_tokens() const {
  std::vector<std::string> tokens;
  for (int id = 0; id < vocabulary_size(); ++id)
    if (processor_->IsControl(id)) tokens.push_back(processor_->IdToPiece(id));
  return tokens;
}

std::optional<int32_t> SentencePieceTokenizer::begin_id() const {
  const int id = processor_->bos_id();
  return id >= 0 ? std::optional<int32_t>(id) : std::nullopt;
}

std::shared_ptr<const TextTokenizer> SentencePieceTokenizer::with_special_tokens(
    const std::vector<std::string>& tokens) const {
  std::string bytes = bytes_;
  for (const std::string& token : tokens) {
    const int id = processor_->PieceToId(token);
    if (id >= 0 && processor_->IdToPiece(id) == token)
      throw DataError(name_ + ": piece " + token + " is there already");
    bytes += serialized_control_symbol(token);
  }
  return std::make_shared<SentencePieceTokenizer>(parse(std::move(bytes), name_));
}

}  // namespace espalier
