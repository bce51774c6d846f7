#include "data/text/tokenizer_json.h"

#include <limits>

#include "data/errors.h"

namespace espalier {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using Entry = std::pair<std::string, ordered_json>;  // where it stands, and what does

constexpr size_t kMostShown = 60;  // bytes of a value in an error

std::string shown(const ordered_json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() <= kMostShown ? text : text.substr(0, kMostShown) + "...";
}

// A vocabulary of a hundred thousand tokens is kept out of the tree: members of an ordered object
// are searched one by one.
ordered_json parse(const std::string& text, TokenizerJson& file) {
  std::string section, member, token;
  const auto listen = [&](int depth, ordered_json::parse_event_t event, ordered_json& parsed) {
    const bool is_key = event == ordered_json::parse_event_t::key;
    if (is_key && depth == 1) section = parsed.get<std::string>();
    if (is_key && depth == 2) member = parsed.get<std::string>();
    if (depth != 3 || section != "model" || member != "vocab") return true;
    if (is_key) token = parsed.get<std::string>();
    if (event != ordered_json::parse_event_t::value) return !is_key;
    if (!parsed.is_number_integer())
      file.refuse("model.vocab[\"" + token + "\"]", shown(parsed), "an integer");
    file.vocabulary.emplace_back(token, parsed.get<int64_t>());
    return true;
  };
  try {
    return ordered_json::parse(text, listen);
  } catch (const ordered_json::parse_error& error) {
    throw DataError(file.name + ": not JSON: " + error.what());
  }
}

class Reader {
 public:
  explicit Reader(TokenizerJson& file) : file_(file) {}

  void run() {
    const ordered_json& root = file_.frame;
    if (!root.is_object() || !root.contains("model") || !root["model"].is_object())
      file_.refuse("model", root.is_object() ? shown(root.value("model", ordered_json())) : "none",
                   "an object of type BPE");
    read_model(root["model"]);
    read_added(root.value("added_tokens", ordered_json::array()));
    for (const Entry& entry : parts("normalizer", "normalizers")) read_normalizer(entry);
    read_pre_tokenizer();
    for (const Entry& entry : parts("decoder", "decoders")) require_type(entry, {"ByteLevel"});
    for (const Entry& entry : parts("post_processor", "processors")) read_post_processor(entry);
  }

 private:
  // Absent, null, false, zero or empty.
  void require_off(const ordered_json& object, const char* member, const std::string& key) const {
    const auto found = object.find(member);
    if (found == object.end() || found->empty() || *found == false || *found == 0.0) return;
    if (*found == "") return;
    file_.refuse(key, shown(*found), "null");
  }

  std::string require_type(const Entry& entry, const std::vector<std::string>& known) const {
    const std::string type =
        entry.second.is_object() ? entry.second.value("type", std::string()) : "";
    std::string expected;
    for (const std::string& name : known) {
      if (type == name) return type;
      expected += (expected.empty() ? "" : ", ") + name;
    }
    file_.refuse(entry.first + ".type", type.empty() ? shown(entry.second) : type, expected);
  }

  // The parts of a Sequence, however deep, or the one part, or none.
  std::vector<Entry> parts(const std::string& section, const char* list) const {
    std::vector<Entry> found;
    add_parts({section, file_.frame.value(section, ordered_json())}, list, found);
    return found;
  }
  void add_parts(const Entry& entry, const char* list, std::vector<Entry>& found) const {
    const auto& [where, value] = entry;
    if (value.is_null()) return;
    if (!value.is_object() || value.value("type", "") != "Sequence") {
      found.push_back(entry);
      return;
    }
    int i = 0;
    for (const ordered_json& part : value.at(list))
      add_parts({where + "." + list + "[" + std::to_string(i++) + "]", part}, list, found);
  }

  void read_model(const ordered_json& model) {
    // Older files do not say the type.
    require_type({"model", ordered_json{{"type", model.value("type", "BPE")}}}, {"BPE"});
    // unk_token and fuse_unk are for characters without a token, and here every byte has one.
    for (const char* key :
         {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"})
      require_off(model, key, std::string("model.") + key);
    const auto ignores = model.find("ignore_merges");
    file_.ignores_merges = ignores != model.end() && *ignores == true;
    for (const ordered_json& merge : model.at("merges")) read_merge(merge);
  }

  // New files hold pairs, older ones "left right"; no token contains a space.
  void read_merge(const ordered_json& merge) {
    const std::string where = "model.merges[" + std::to_string(file_.merges.size()) + "]";
    if (merge.is_array() && merge.size() == 2) {
      file_.merges.emplace_back(merge[0], merge[1]);
      return;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = text.find(' ');
    if (space == std::string::npos) file_.refuse(where, shown(merge), "a pair of tokens");
    file_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }

  void read_added(const ordered_json& list) {
    for (const ordered_json& added : list) {
      const int64_t id = added.at("id").get<int64_t>();
      const std::string where = "added_tokens[" + std::to_string(file_.added.size()) + "]";
      if (id < 0 || id > std::numeric_limits<int32_t>::max())
        file_.refuse(where + ".id", std::to_string(id), "an id");
      const std::string content = added.at("content");
      if (content.empty()) file_.refuse(where + ".content", "\"\"", "a text");
      const bool is_special = added.value("special", false);
      file_.added.push_back({.id = static_cast<int32_t>(id),
                             .content = content,
                             .is_special = is_special,
                             .takes_left = added.value("lstrip", false),
                             .takes_right = added.value("rstrip", false),
                             .is_word = added.value("single_word", false),
                             .is_normalized = added.value("normalized", !is_special)});
    }
  }

  void read_normalizer(const Entry& entry) {
    require_type(entry, {"NFC"});
    file_.is_normalized = true;
  }

  void read_pre_tokenizer() {
    std::vector<PreTokenizer::Step> steps;
    bool is_byte_level = false;
    for (const Entry& entry : parts("pre_tokenizer", "pretokenizers")) {
      if (is_byte_level) file_.refuse(entry.first, shown(entry.second), "nothing after ByteLevel");
      const std::string type = require_type(entry, {"ByteLevel", "Split", "Digits"});
      is_byte_level = type == "ByteLevel";
      steps.push_back(is_byte_level     ? byte_level(entry.second)
                      : type == "Split" ? split(entry)
                                        : digits(entry));
    }
    if (!is_byte_level)
      file_.refuse("pre_tokenizer", shown(file_.frame.value("pre_tokenizer", ordered_json())),
                   "ByteLevel, alone or at the end of a Sequence");
    file_.pre_tokenizer = PreTokenizer(std::move(steps));
  }

  PreTokenizer::Step byte_level(const ordered_json& part) const {
    return {part.value("use_regex", true) ? pattern("pre_tokenizer", kGpt2Pattern) : nullptr,
            part.value("add_prefix_space", true)};
  }

  PreTokenizer::Step split(const Entry& entry) const {
    const auto& [where, part] = entry;
    const ordered_json source = part.value("pattern", ordered_json());
    if (!source.is_object() || !source.contains("Regex"))
      file_.refuse(where + ".pattern", shown(source), "a Regex");
    if (part.value("behavior", "") != "Isolated")
      file_.refuse(where + ".behavior", shown(part.value("behavior", ordered_json())), "Isolated");
    if (part.value("invert", false)) file_.refuse(where + ".invert", "true", "false");
    return {pattern(where + ".pattern", source["Regex"]), false};
  }

  PreTokenizer::Step digits(const Entry& entry) const {
    const bool one_by_one = entry.second.value("individual_digits", false);
    return {pattern(entry.first, one_by_one ? R"(\p{N})" : R"(\p{N}+)"), false};
  }

  std::shared_ptr<const SplitPattern> pattern(const std::string& where,
                                              const std::string& source) const {
    try {
      return std::make_shared<const SplitPattern>(source);
    } catch (const DataError& error) {
      throw DataError(file_.name + ": " + where + ": " + error.what());
    }
  }

  // ByteLevel trims offsets, which nobody asks for here; a template names the beginning token.
  void read_post_processor(const Entry& entry) {
    const auto& [where, part] = entry;
    if (require_type(entry, {"ByteLevel", "TemplateProcessing"}) == "ByteLevel") return;
    for (const ordered_json& piece : part.at("single")) {
      if (!piece.contains("SpecialToken")) return;
      const ordered_json& token = part.at("special_tokens").at(piece["SpecialToken"].at("id"));
      for (const ordered_json& id : token.at("ids"))
        if (!file_.begin_id) file_.begin_id = id.get<int32_t>();
    }
  }

  TokenizerJson& file_;
};

}  // namespace

void TokenizerJson::refuse(const std::string& key, const std::string& got,
                           const std::string& expected) const {
  throw DataError(name + ": " + key + " is " + got + ", which is not supported; expected " +
                  expected +
                  " (byte-level BPE in the form of Hugging Face's tokenizer.json is "
                  "read)");
}

TokenizerJson read_tokenizer_json(const std::string& text, const std::string& name) {
  TokenizerJson file;
  file.name = name;
  file.frame = parse(text, file);
  try {
    Reader(file).run();
  } catch (const json::exception& error) {
    throw DataError(name + ": not in the form of tokenizer.json: " + error.what());
  }
  // How long the sequences of a batch were for whoever saved the file, not what a text means.
  for (const char* key : {"truncation", "padding"})
    if (file.frame.contains(key)) file.frame[key] = nullptr;
  file.frame["added_tokens"] = nullptr;
  file.frame["model"]["vocab"] = nullptr;
  file.frame["model"]["merges"] = nullptr;
  return file;
}

}  // namespace espalier
