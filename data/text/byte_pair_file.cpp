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
#include "data/text/utf8.h"

// Hugging Face tokenizer.json, the subset that byte-level BPE needs. What the file asks for and
// this tokenizer would not do (normalizers, other pre-tokenizers, dropout) is refused, never
// ignored.

namespace espalier {
namespace {

using nlohmann::json;
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

ordered_json byte_level(bool with_regex) {
  ordered_json part = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
  part["use_regex"] = with_regex;
  return part;
}

class Reader {
 public:
  Reader(std::istream& in, const std::string& path) : path_(path) {
    try {
      root_ = json::parse(in);
    } catch (const json::parse_error& error) {
      fail(std::string("not JSON: ") + error.what());
    }
  }

  const json& root() const { return root_; }

  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(path_ + ": " + what +
                    " (byte-level BPE in Hugging Face tokenizer.json form is read)");
  }

  void require_supported() const {
    if (!root_.is_object() || !root_.contains("model")) fail("no \"model\"");
    for (const char* key : {"normalizer", "truncation", "padding"})
      if (!is_off(root_, key)) fail(std::string("\"") + key + "\" is not supported");
    const json& model = root_["model"];
    if (model.value("type", "BPE") != "BPE") fail("model type is not BPE");
    for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix",
                            "end_of_word_suffix", "byte_fallback", "ignore_merges"})
      if (!is_off(model, key)) fail(std::string("model option \"") + key + "\" is not supported");
    const json pre = root_.value("pre_tokenizer", json::object());
    if (!pre.is_object() || pre.value("type", "") != "ByteLevel" ||
        pre.value("add_prefix_space", true) || !pre.value("use_regex", true))
      fail("the pre-tokenizer is not ByteLevel with its regex and without a prefix space");
    // A ByteLevel post-processor only trims offsets, which nobody asks for here.
    if (!is_off(root_, "post_processor") &&
        root_["post_processor"].value("type", "") != "ByteLevel")
      fail("\"post_processor\" is not supported");
  }

 private:
  static bool is_off(const json& object, const char* key) {
    const auto found = object.find(key);
    if (found == object.end() || found->empty()) return true;  // absent or null
    if (found->is_string()) return found->get_ref<const std::string&>().empty();
    return *found == false || *found == 0.0;
  }

  std::string path_;
  json root_;
};

struct Token {
  std::string text;  // as spelled in the file
  bool is_special = false;
};

std::vector<Token> read_tokens(const Reader& reader) {
  std::unordered_map<int64_t, Token> by_id;
  for (const auto& [text, id] : reader.root()["model"].at("vocab").items())
    if (!by_id.try_emplace(id.get<int64_t>(), Token{text, false}).second)
      reader.fail("id " + id.dump() + " occurs twice");
  for (const json& added : reader.root().value("added_tokens", json::array())) {
    const std::string text = added.at("content");
    if (!added.value("special", false) || added.value("single_word", false) ||
        added.value("lstrip", false) || added.value("rstrip", false) || text.empty())
      reader.fail("added token " + text + " is not a plain special token");
    Token& token =
        by_id.try_emplace(added.at("id").get<int64_t>(), Token{text, true}).first->second;
    if (token.text != text) reader.fail("added token " + text + " has the id of " + token.text);
    token.is_special = true;
  }
  std::vector<Token> tokens;
  for (int64_t id = 0; id < std::ssize(by_id); ++id) {
    const auto found = by_id.find(id);
    if (found == by_id.end()) reader.fail("no token has the id " + std::to_string(id));
    tokens.push_back(found->second);
  }
  return tokens;
}

// New files hold pairs, older ones "left right"; no token contains a space.
std::pair<std::string, std::string> read_merge(const Reader& reader, const json& merge) {
  if (merge.is_array() && merge.size() == 2) return {merge[0], merge[1]};
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const size_t space = text.find(' ');
  if (space == std::string::npos) reader.fail("a merge is not a pair of tokens: " + merge.dump());
  return {text.substr(0, space), text.substr(space + 1)};
}

}  // namespace

BytePairTokenizer BytePairTokenizer::load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw DataError("cannot open " + path + ": " + std::strerror(errno));
  return read(in, path);
}

BytePairTokenizer BytePairTokenizer::parse(const std::string& text, const std::string& name) {
  std::istringstream in(text);
  return read(in, name);
}

BytePairTokenizer BytePairTokenizer::read(std::istream& in, const std::string& name) {
  const Reader reader(in, name);
  try {
    reader.require_supported();
    BytePairTokenizer tokenizer;
    std::unordered_map<std::string, int32_t> id_of;
    for (const Token& token : read_tokens(reader)) {
      const auto bytes = token.is_special ? token.text : unspell(token.text);
      if (!bytes) reader.fail("token " + token.text + " is not in the byte alphabet");
      const int32_t id = tokenizer.add_token(*bytes, token.is_special);
      if (!token.is_special) id_of[token.text] = id;
    }
    for (int byte = 0; byte < 256; ++byte)
      if (tokenizer.id_of_byte_[byte] < 0) reader.fail("no token for byte " + std::to_string(byte));
    const auto id = [&](const std::string& token) {
      const auto found = id_of.find(token);
      if (found == id_of.end()) reader.fail("a merge names " + token + ", which has no id");
      return found->second;
    };
    for (const json& merge : reader.root()["model"].at("merges")) {
      const auto [left, right] = read_merge(reader, merge);
      tokenizer.add_merge(id(left), id(right), id(left + right));
    }
    return tokenizer;
  } catch (const json::exception& error) {
    reader.fail(error.what());
  }
}

std::string BytePairTokenizer::to_text() const {
  ordered_json added = ordered_json::array();
  ordered_json vocabulary = ordered_json::object();
  for (int32_t id = 0; id < vocabulary_size(); ++id) {
    vocabulary[is_special_[id] ? bytes_of_[id] : spell_bytes(bytes_of_[id])] = id;
    if (!is_special_[id]) continue;
    added.push_back({{"id", id},
                     {"content", bytes_of_[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  ordered_json merges = ordered_json::array();
  for (const auto& [left, right] : merges_)
    merges.push_back(spell_bytes(bytes_of_[left]) + " " + spell_bytes(bytes_of_[right]));

  ordered_json root = {{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", added},
                       {"normalizer", nullptr},
                       {"pre_tokenizer", byte_level(true)},
                       {"post_processor", nullptr},
                       {"decoder", byte_level(true)},
                       {"model",
                        {{"type", "BPE"},
                         {"dropout", nullptr},
                         {"unk_token", nullptr},
                         {"continuing_subword_prefix", nullptr},
                         {"end_of_word_suffix", nullptr},
                         {"fuse_unk", false},
                         {"byte_fallback", false},
                         {"ignore_merges", false}}}};
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
