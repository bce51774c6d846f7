#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <unordered_map>

#include <nlohmann/json.hpp>

#include "data/errors.h"
#include "data/text/byte_alphabet.h"
#include "data/text/byte_pair_tokenizer.h"
#include "data/text/normal_form.h"
#include "data/text/tokenizer_json.h"
#include "data/text/utf8.h"

// A byte-level BPE from Hugging Face's tokenizer.json, and written as one.

namespace espalier {
namespace {

using nlohmann::ordered_json;

// Bytes of a token as it is spelled in the file; nothing when a character stands for no byte.
std::optional<std::string> unspell(std::string_view text) {
  static const auto byte_of = [] {
    std::unordered_map<std::string, char> map;
    const auto alphabet = byte_alphabet();
    for (int byte = 0; byte < 256; ++byte) map[alphabet[byte]] = static_cast<char>(byte);
    return map;
  }();
  std::string bytes;
  while (!text.empty()) {
    const int length = utf8_length(text);
    const auto found = byte_of.find(std::string(text.substr(0, length)));
    if (length == 0 || found == byte_of.end()) return std::nullopt;
    bytes += found->second;
    text.remove_prefix(length);
  }
  return bytes;
}

ordered_json byte_level() {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", true}};
}

// Of tokenizers that are trained here.
std::string frame_of_trained() {
  return ordered_json({{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", nullptr},
                       {"normalizer", nullptr},
                       {"pre_tokenizer", byte_level()},
                       {"post_processor", nullptr},
                       {"decoder", byte_level()},
                       {"model",
                        {{"type", "BPE"},
                         {"dropout", nullptr},
                         {"unk_token", nullptr},
                         {"continuing_subword_prefix", nullptr},
                         {"end_of_word_suffix", nullptr},
                         {"fuse_unk", false},
                         {"byte_fallback", false},
                         {"ignore_merges", false},
                         {"vocab", nullptr},
                         {"merges", nullptr}}}})
      .dump();
}

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

}  // namespace

BytePairTokenizer::BytePairTokenizer() : frame_(frame_of_trained()) {}

BytePairTokenizer::BytePairTokenizer(const TokenizerJson& file)
    : frame_(file.frame.dump()),
      pre_tokenizer_(file.pre_tokenizer),
      is_normalized_(file.is_normalized),
      ignores_merges_(file.ignores_merges),
      begin_id_(file.begin_id) {
  read_vocabulary(file);
  read_merges(file);
  make_finders();
}

void BytePairTokenizer::read_vocabulary(const TokenizerJson& file) {
  std::unordered_map<int64_t, const std::string*> text_of;
  for (const auto& [text, id] : file.vocabulary)
    if (!text_of.try_emplace(id, &text).second)
      file.refuse("model.vocab", "a list in which id " + std::to_string(id) + " occurs twice",
                  "one token for an id");
  for (const AddedToken& token : file.added) {
    const auto [found, is_new] = text_of.try_emplace(token.id, &token.content);
    if (*found->second != token.content)
      file.refuse("the id of the added token " + quoted(token.content),
                  "that of " + quoted(*found->second), "its own");
    added_[token.id] = token;
    if (!id_of_added_.try_emplace(token.content, token.id).second)
      file.refuse("the added token " + quoted(token.content), "there twice", "one id for it");
  }
  const auto size = static_cast<int32_t>(text_of.size());
  bytes_of_.resize(text_of.size());
  is_in_vocabulary_.resize(text_of.size());
  const auto require_place = [&](int64_t id) {
    if (id < 0 || id >= size)
      file.refuse("a token's id", std::to_string(id) + " among " + std::to_string(size) + " tokens",
                  "ids without gaps from 0");
  };
  for (const auto& [id, token] : added_) {
    require_place(id);
    bytes_of_[id] =
        is_normalized_ && token.is_normalized ? normal_form_c(token.content) : token.content;
  }
  for (const auto& [text, id] : file.vocabulary) {
    require_place(id);
    is_in_vocabulary_[id] = true;
    const auto bytes = unspell(text);
    if (!bytes && added_of(static_cast<int32_t>(id)) == nullptr)
      file.refuse("the token " + quoted(text) + " of model.vocab", "not in the byte alphabet",
                  "bytes, as GPT-2 spells them");
    if (bytes && bytes->size() == 1)
      id_of_byte_[static_cast<uint8_t>(bytes->front())] = static_cast<int32_t>(id);
    if (bytes && ignores_merges_) id_of_piece_[*bytes] = static_cast<int32_t>(id);
    if (added_of(static_cast<int32_t>(id)) == nullptr) bytes_of_[id] = *bytes;
  }
  for (int byte = 0; byte < 256; ++byte)
    if (id_of_byte_[byte] < 0)
      file.refuse("model.vocab", "without a token for byte " + std::to_string(byte),
                  "tokens for all 256 bytes");
}

void BytePairTokenizer::read_merges(const TokenizerJson& file) {
  std::unordered_map<std::string_view, int32_t> id_of;
  for (const auto& [text, id] : file.vocabulary) id_of[text] = static_cast<int32_t>(id);
  const auto find = [&](const std::string& token) {
    const auto found = id_of.find(token);
    if (found == id_of.end())
      file.refuse("a merge", "of or to " + quoted(token) + ", which has no id",
                  "tokens of model.vocab");
    return found->second;
  };
  merge_of_.reserve(file.merges.size());
  for (const auto& [left, right] : file.merges) {
    const int32_t result = find(left + right);
    add_merge(find(left), find(right), result);
    // An added token that merges make stands for bytes like any other.
    if (added_of(result) != nullptr)
      bytes_of_[result] = unspell(left + right).value_or(left + right);
  }
}

BytePairTokenizer BytePairTokenizer::load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError("cannot open " + path + ": " + std::strerror(errno));
  std::ostringstream text;
  text << in.rdbuf();
  return parse(text.str(), path);
}

BytePairTokenizer BytePairTokenizer::parse(const std::string& text, const std::string& name) {
  return BytePairTokenizer(read_tokenizer_json(text, name));
}

// As in the file: an added token is itself there.
std::string BytePairTokenizer::spelling(int32_t id) const {
  const AddedToken* added = added_of(id);
  return added != nullptr ? added->content : spell_bytes(bytes_of_[id]);
}

std::string BytePairTokenizer::to_text() const {
  ordered_json root = ordered_json::parse(frame_);
  ordered_json added = ordered_json::array();
  for (const auto& [id, token] : added_)
    added.push_back({{"id", id},
                     {"content", token.content},
                     {"single_word", token.is_word},
                     {"lstrip", token.takes_left},
                     {"rstrip", token.takes_right},
                     {"normalized", token.is_normalized},
                     {"special", token.is_special}});
  ordered_json vocabulary = ordered_json::object();
  // Behind the object's back, which would search all members for each new one.
  auto& members = vocabulary.get_ref<ordered_json::object_t&>();
  for (int32_t id = 0; id < vocabulary_size(); ++id)
    if (is_in_vocabulary_[id])
      members.ordered_json::object_t::Container::emplace_back(spelling(id), id);
  ordered_json merges = ordered_json::array();
  for (const auto& [left, right] : merges_)
    merges.push_back(spelling(left) + " " + spelling(right));

  root["added_tokens"] = std::move(added);
  root["model"]["vocab"] = std::move(vocabulary);
  root["model"]["merges"] = std::move(merges);
  return root.dump(1, ' ') + "\n";
}

void BytePairTokenizer::save(const std::string& path) const {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << to_text();
  out.close();
  if (!out) throw DataError("cannot write " + path + ": " + std::strerror(errno));
}

}  // namespace espalier
