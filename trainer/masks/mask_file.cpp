#include "trainer/masks/mask_file.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include <toml++/toml.h>

#include "trainer/config/settings.h"
#include "trainer/config/toml_text.h"
#include "trainer/errors.h"
#include "trainer/masks/mask_expression.h"

namespace espalier {
namespace {

// Files of one mask are a page; much more is a mistake, such as a set of weights.
constexpr int64_t kMostGroups = 4096;
constexpr int64_t kMostTokens = 1 << 22;

int line_of(const toml::node& node) { return static_cast<int>(node.source().begin.line); }

class MaskReader {
 public:
  MaskReader(const std::string& path, const std::vector<std::string>& sets) : path_(path) {
    file_.path = path;
    parse();
    declare(settings_table(), "");
    for (const std::string& set : sets) choose(set);
    for (const auto& [name, value] : switches_) file_.settings[name] = value ? 1 : 0;
  }

  MaskFile read() {
    check_keys(root_, {"settings", "group"}, "a mask file");
    const toml::array* groups = root_["group"].as_array();
    if (groups == nullptr || groups->empty() || !groups->is_array_of_tables()) {
      refuse(root_, "a mask file has groups: write [[group]] with name, kind, tokens and sees");
    }
    file_.description.timesteps = setting_or("timesteps", 1);
    for (const toml::node& node : *groups) add_group(*node.as_table());
    for (TokenGroup& group : file_.description.groups) inherit(group, {});
    return std::move(file_);
  }

 private:
  [[noreturn]] void refuse(int line, const std::string& why) const {
    throw ConfigError(path_ + (line > 0 ? ":" + std::to_string(line) : "") + ": " + why);
  }
  [[noreturn]] void refuse(const toml::node& node, const std::string& why) const {
    refuse(line_of(node), why);
  }

  void parse() {
    try {
      root_ = toml::parse(read_toml_text(path_));
    } catch (const toml::parse_error& error) {
      refuse(static_cast<int>(error.source().begin.line), std::string(error.description()));
    }
  }

  const toml::table& settings_table() const {
    static const toml::table none;
    const toml::node* node = root_.get("settings");
    if (node == nullptr) return none;
    if (!node->is_table()) refuse(*node, "settings is a table: write [settings]");
    return *node->as_table();
  }

  void declare(const toml::table& table, const std::string& prefix) {
    for (const auto& [key, node] : table) {
      const std::string name = prefix + std::string(key.str());
      if (const auto* below = node.as_table()) {
        declare(*below, name + ".");
      } else if (const auto number = node.value_exact<int64_t>()) {
        if (*number < 0) refuse(node, "setting \"" + name + "\" is below 0");
        settings_.add(name, file_.settings[name] = *number, {.help = "", .min = 0});
      } else if (const auto flag = node.value_exact<bool>()) {
        settings_.add(name, switches_[name] = *flag, {.help = ""});
      } else {
        refuse(node, "setting \"" + name + "\" is neither a whole number nor true or false");
      }
    }
  }

  void choose(const std::string& set) {
    try {
      settings_.set_from_argument(set);
    } catch (const ConfigError& error) {
      throw ConfigError(path_ + ": " + error.what());
    }
  }

  int64_t setting_or(const std::string& name, int64_t otherwise) const {
    const auto found = file_.settings.find(name);
    return found == file_.settings.end() ? otherwise : found->second;
  }

  void check_keys(const toml::table& table, const std::vector<std::string>& known,
                  const std::string& what) const {
    for (const auto& [key, node] : table) {
      if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
      std::string names;
      for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
      refuse(node, what + " has no \"" + std::string(key.str()) + "\"; known: " + names);
    }
  }

  std::string text(const toml::table& table, const char* key, const std::string& otherwise) const {
    const toml::node* node = table.get(key);
    if (node == nullptr) return otherwise;
    const auto value = node->value_exact<std::string>();
    if (!value) refuse(*node, std::string(key) + " is a text in quotes");
    return *value;
  }

  int64_t number(const toml::node& node, const std::string& what) const {
    if (const auto value = node.value_exact<int64_t>()) return *value;
    const auto expression = node.value_exact<std::string>();
    if (!expression) refuse(node, what + " is a whole number, or an expression in quotes");
    try {
      return evaluate_expression(*expression, file_.settings);
    } catch (const std::invalid_argument& error) {
      refuse(node, what + " = " + error.what());
    }
  }

  GroupKind kind_of(const toml::table& table, const std::string& where) const {
    const std::string name = text(table, "kind", "full");
    for (const GroupKind kind : {GroupKind::kCausal, GroupKind::kFull, GroupKind::kNoise,
                                 GroupKind::kQuery, GroupKind::kIsolated}) {
      if (to_string(kind) == name) return kind;
    }
    refuse(*table.get("kind"), where + ": there is no kind \"" + name +
                                   "\"; known: causal, full, noise, query, isolated");
  }

  void add_group(const toml::table& table) {
    TokenGroup group;
    group.line = line_of(table);
    group.name = text(table, "name", "");
    if (group.name.empty()) refuse(table, "a group needs a name");
    const std::string where = "group \"" + group.name + "\"";
    check_keys(table, {"name", "kind", "tokens", "rows", "once", "like", "sees"}, where);
    if (table.get("like") != nullptr) {
      if (table.get("kind") != nullptr) refuse(table, where + " takes its kind from \"like\"");
      likes_[group.name] = text(table, "like", "");
    }
    group.kind = kind_of(table, where);
    group.is_once = table["once"].value_or(false);
    set_size(table, where, group);
    if (const toml::node* rules = table.get("sees")) add_rules(*rules, where, group);
    file_.description.groups.push_back(std::move(group));
    tokens_ += file_.description.groups.back().tokens;
    if (static_cast<int64_t>(file_.description.groups.size()) * file_.description.timesteps >
            kMostGroups ||
        tokens_ > kMostTokens / file_.description.timesteps) {
      refuse(table, where + ": more than " + std::to_string(kMostGroups) + " groups or " +
                        std::to_string(kMostTokens) + " tokens over all timesteps");
    }
  }

  void set_size(const toml::table& table, const std::string& where, TokenGroup& group) const {
    const toml::node* tokens = table.get("tokens");
    const toml::node* rows = table.get("rows");
    if ((tokens == nullptr) == (rows == nullptr)) {
      refuse(table, where + " needs tokens = N, or rows = [first, last]");
    }
    if (tokens != nullptr) {
      group.tokens = number(*tokens, where + ": tokens");
      if (group.tokens < 0) {
        refuse(*tokens, where + " has " + std::to_string(group.tokens) +
                            " tokens with these settings; 0 turns a group off");
      }
      return;
    }
    const toml::array* range = rows->as_array();
    if (range == nullptr || range->size() != 2) refuse(*rows, where + ": rows = [first, last]");
    group.first_row = number(*range->get(0), where + ": first row");
    group.tokens = number(*range->get(1), where + ": last row") - group.first_row + 1;
    if (group.first_row < 0 || group.tokens < 1) {
      refuse(*rows, where + ": rows = [first, last] counts from 0, and last is not before first");
    }
  }

  void add_rules(const toml::node& node, const std::string& where, TokenGroup& group) const {
    const toml::array* rules = node.as_array();
    if (rules == nullptr) {
      add_rule(node, where, group);
    } else {
      for (const toml::node& rule : *rules) add_rule(rule, where, group);
    }
  }

  void add_rule(const toml::node& node, const std::string& where, TokenGroup& group) const {
    SightRule rule;
    rule.line = line_of(node);
    if (const auto name = node.value_exact<std::string>()) {
      rule.groups = {*name};
    } else if (const toml::table* table = node.as_table()) {
      check_keys(*table, {"groups", "at", "if", "unless"}, where + ": a rule of sees");
      if (!holds(*table, where)) return;
      rule.groups = names(*table, where);
      set_time(*table, where, rule);
    } else {
      refuse(node, where + ": sees holds names of groups, or { groups = …, at = … }");
    }
    group.sees.push_back(std::move(rule));
  }

  bool holds(const toml::table& table, const std::string& where) const {
    const auto is_set = [&](const char* key) {
      const std::string name = text(table, key, "");
      const auto found = file_.settings.find(name);
      if (found == file_.settings.end()) {
        refuse(*table.get(key),
               where + ": " + key + " = \"" + name + "\" is no setting of this file");
      }
      return found->second != 0;
    };
    if (table.get("if") != nullptr && !is_set("if")) return false;
    return table.get("unless") == nullptr || !is_set("unless");
  }

  std::vector<std::string> names(const toml::table& table, const std::string& where) const {
    const toml::node* node = table.get("groups");
    if (node == nullptr) refuse(table, where + ": a rule of sees needs groups");
    if (const auto one = node->value_exact<std::string>()) return {*one};
    std::vector<std::string> all;
    const toml::array* array = node->as_array();
    if (array == nullptr || array->empty()) refuse(*node, where + ": groups is a list of names");
    for (const toml::node& item : *array) {
      const auto name = item.value_exact<std::string>();
      if (!name) refuse(item, where + ": groups is a list of names");
      all.push_back(*name);
    }
    return all;
  }

  void set_time(const toml::table& table, const std::string& where, SightRule& rule) const {
    const toml::node* at = table.get("at");
    const std::string word = at == nullptr ? "same" : at->value_exact<std::string>().value_or("");
    if (word == "same") return;
    if (word == "past" || word == "same and past" || word == "any") {
      rule.from = -kAlways;
      rule.to = word == "past" ? -1 : word == "any" ? kAlways : 0;
      return;
    }
    try {
      rule.from = rule.to = number(*at, where + ": at");
    } catch (const ConfigError& error) {
      throw ConfigError(std::string(error.what()) +
                        "; at is same, past, same and past, any, or a number of timesteps ahead");
    }
  }

  TokenGroup& named(const std::string& name, const TokenGroup& by) {
    auto& groups = file_.description.groups;
    const auto found = std::find_if(groups.begin(), groups.end(),
                                    [&](const TokenGroup& group) { return group.name == name; });
    if (found == groups.end()) {
      refuse(by.line, "group \"" + by.name + "\" is like \"" + name +
                          "\", and there is no group of that name");
    }
    return *found;
  }

  // Kind and rules of the group it is like, and its own rules besides.
  void inherit(TokenGroup& group, std::set<std::string> asked_by) {
    const auto like = likes_.find(group.name);
    if (like == likes_.end()) return;
    if (!asked_by.insert(group.name).second) {
      refuse(group.line, "group \"" + group.name + "\" is like \"" + like->second +
                             "\", and so on in a circle back to \"" + group.name + "\"");
    }
    TokenGroup& model = named(like->second, group);
    inherit(model, asked_by);
    group.kind = model.kind;
    group.sees.insert(group.sees.end(), model.sees.begin(), model.sees.end());
    likes_.erase(group.name);
  }

  std::string path_;
  toml::table root_;
  MaskFile file_;
  std::map<std::string, bool> switches_;
  std::map<std::string, std::string> likes_;
  Settings settings_;
  int64_t tokens_ = 0;
};

}  // namespace

MaskFile read_mask_file(const std::string& path, const std::vector<std::string>& sets) {
  return MaskReader(path, sets).read();
}

MaskLayout lay_out(const MaskFile& file) {
  try {
    return lay_out(file.description);
  } catch (const MaskError& error) {
    throw ConfigError(file.path + (error.line > 0 ? ":" + std::to_string(error.line) : "") + ": " +
                      error.what());
  }
}

}  // namespace espalier
