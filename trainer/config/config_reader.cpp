// A TOML file becomes a RunConfig: first the named things, so that their settings can be declared,
// then every value.
#include <algorithm>
#include <cctype>

#include <toml++/toml.h>

#include "trainer/config/config_text.h"
#include "trainer/config/run_config.h"
#include "trainer/config/toml_json.h"
#include "trainer/config/toml_text.h"
#include "trainer/errors.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

std::string at_line(const std::string& file, const toml::node& node) {
  return file + ":" + std::to_string(node.source().begin.line);
}

// Names stand in keys, file names and tables of TOML.
bool is_name(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-';
  });
}

struct NamedTable {
  std::string name;
  const toml::table* table;
};

// The tables below `parent`, in the order of the file: toml++ keeps them by name.
std::vector<NamedTable> tables_of(const toml::table& parent) {
  std::vector<NamedTable> tables;
  for (const auto& [key, node] : parent) {
    if (node.is_table()) tables.push_back({std::string(key.str()), node.as_table()});
  }
  std::sort(tables.begin(), tables.end(), [](const NamedTable& a, const NamedTable& b) {
    const auto& x = a.table->source().begin;
    const auto& y = b.table->source().begin;
    return std::pair(x.line, x.column) < std::pair(y.line, y.column);
  });
  return tables;
}

// [data.NAME] and its like; a value where a name is expected is a mistake worth a word of its own.
std::vector<NamedTable> named_things(const toml::table& root, const std::string& what,
                                     const std::string& file) {
  const toml::node* node = root.get(what);
  if (node == nullptr) return {};
  if (!node->is_table()) {
    throw ConfigError(at_line(file, *node) + ": " + what + " is a table of named things: write [" +
                      what + ".NAME]");
  }
  for (const auto& [key, value] : *node->as_table()) {
    if (value.is_table() && !is_name(std::string(key.str()))) {
      throw ConfigError(at_line(file, value) + ": \"" + std::string(key.str()) +
                        "\" is no name: letters, digits, _ and - only");
    }
    if (value.is_table()) continue;
    throw ConfigError(at_line(file, value) + ": " + what + "." + std::string(key.str()) +
                      ": a name is missing; write [" + what + ".NAME] and below it " +
                      std::string(key.str()));
  }
  return tables_of(*node->as_table());
}

std::string kind_of(const NamedTable& thing) {
  return (*thing.table)["kind"].value_exact<std::string>().value_or("");
}

// Rethrows what a look-up says with the line of the table it was for.
template <class Look>
auto at(const std::string& file, const toml::node& node, const Look& look) -> decltype(look()) {
  try {
    return look();
  } catch (const ConfigError& error) {
    throw ConfigError(at_line(file, node) + ": " + error.what());
  }
}

void find_things(const toml::table& root, const std::string& file, RunConfig& config) {
  for (const NamedTable& thing : named_things(root, "data", file)) {
    config.data.emplace_back().name = thing.name;
  }
  for (const NamedTable& thing : named_things(root, "text", file)) {
    config.texts.emplace_back().name = thing.name;
  }
  for (const NamedTable& thing : named_things(root, "episodes", file)) {
    config.episodes.emplace_back().name = thing.name;
  }
  for (const NamedTable& thing : named_things(root, "teacher", file)) {
    TeacherConfig& teacher = config.teachers.emplace_back();
    teacher.name = thing.name;
    teacher.kind = kind_of(thing);
    at(file, *thing.table, [&] { registry().teacher(teacher.kind, "teacher." + teacher.name); });
  }
  for (const NamedTable& thing : named_things(root, "model", file)) {
    ModelConfig& model = config.models.emplace_back();
    model.name = thing.name;
    model.kind = kind_of(thing);
    model.settings = at(file, *thing.table, [&] {
      return registry().model(model.kind, "model." + model.name).make_settings();
    });
    for (const NamedTable& part : tables_of(*thing.table)) {
      for (const NamedTable& below : tables_of(*part.table)) {
        model.settings->add_part(part.name, below.name);
      }
    }
  }
}

void find_objectives(const toml::table& entry, const std::string& file, StageConfig& stage) {
  const toml::node* node = entry.get("objectives");
  if (node == nullptr) return;
  if (!node->is_array_of_tables()) {
    throw ConfigError(at_line(file, *node) +
                      ": objectives are written as [[stage.objectives]], "
                      "one each, or as a list of { kind = … }");
  }
  for (const auto& item : *node->as_array()) {
    const toml::table& table = *item.as_table();
    ObjectiveConfig& objective = stage.objectives.emplace_back();
    objective.kind = table["kind"].value_exact<std::string>().value_or("");
    objective.name = table["name"].value_exact<std::string>().value_or(objective.kind);
    const std::string where = "an objective of stage " + stage.name;
    objective.settings =
        at(file, item, [&] { return registry().objective(objective.kind, where).make_settings(); });
    const auto same = std::count_if(stage.objectives.begin(), stage.objectives.end(),
                                    [&](const auto& o) { return o.name == objective.name; });
    if (same > 1 || !is_name(objective.name)) {
      throw ConfigError(at_line(file, item) + ": stage " + stage.name +
                        " has two objectives called " + objective.name +
                        ", or that is no name; give one of them a name of its own");
    }
  }
}

void find_stages(const toml::table& root, const std::string& file, RunConfig& config) {
  const toml::node* node = root.get("stage");
  if (node == nullptr) return;
  if (!node->is_array_of_tables()) {
    throw ConfigError(at_line(file, *node) + ": stages are written as [[stage]], one per stage");
  }
  for (const auto& item : *node->as_array()) {
    const toml::table& entry = *item.as_table();
    const auto name = entry["name"].value_exact<std::string>();
    if (!name || !is_name(*name)) {
      throw ConfigError(at_line(file, item) +
                        ": a [[stage]] needs a name, a word without dots, e.g. name = \"codes\"");
    }
    for (const StageConfig& other : config.stages) {
      if (other.name != *name) continue;
      throw ConfigError(at_line(file, item) + ": there are two stages with the name " + *name);
    }
    StageConfig& stage = config.stages.emplace_back();
    stage.name = *name;
    find_objectives(entry, file, stage);
  }
}

class ValueReader {
 public:
  ValueReader(Settings& settings, std::string file) : settings_(settings), file_(std::move(file)) {}

  void read(const toml::table& table, const std::string& prefix, bool is_entry = false) {
    for (const auto& [name, node] : table) {
      if (is_entry && name.str() == "name") continue;  // it stands in every key of the entry
      const std::string key = prefix + std::string(name.str());
      if (node.is_array_of_tables() && (key == "stage" || key.ends_with(".objectives"))) {
        read_entries(*node.as_array(), key + ".");
      } else if (node.is_table() && settings_.find(key) == nullptr) {
        read(*node.as_table(), key + ".");
      } else {
        settings_.set(key, json_from_toml(node), at_line(file_, node));
      }
    }
  }

 private:
  void read_entries(const toml::array& entries, const std::string& prefix) {
    for (const auto& item : entries) {
      const toml::table& entry = *item.as_table();
      const auto kind = entry["kind"].value<std::string>();
      const auto name = entry["name"].value<std::string>();
      read(entry, prefix + (name ? *name : kind.value_or("")) + ".", /*is_entry=*/true);
    }
  }

  Settings& settings_;
  std::string file_;
};

// A warm-up that is written beside fewer steps is a mistake; where --set makes a stage shorter, for
// a trial, or the warm-up is the default, it is cut.
void fit_warmup(const RunConfig& config, Settings& settings) {
  for (const StageConfig& stage : config.stages) {
    const int64_t steps = stage.steps, warmup = stage.optimizer.warmup_steps;
    if (warmup <= steps) continue;
    const std::string key = "stage." + stage.name + ".optimizer.warmup_steps";
    const std::string origin = settings.find(key)->origin;
    const bool is_trial = settings.find("stage." + stage.name + ".steps")->origin == "--set";
    if (origin == "default" || (is_trial && origin != "--set")) {
      settings.set(key, steps, origin + ", cut to the steps of the stage");
      continue;
    }
    throw ConfigError(origin + ": " + key + " = " + std::to_string(warmup) +
                      " is more than the stage has steps (" + std::to_string(steps) +
                      "); lower it, or raise stage." + stage.name + ".steps");
  }
}

}  // namespace

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& sets) {
  const std::string text = read_toml_text(path);
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& error) {
    throw ConfigError(path + ":" + std::to_string(error.source().begin.line) +
                      ": not TOML: " + std::string(error.description()));
  }
  RunConfig config;
  find_things(table, path, config);
  find_stages(table, path, config);
  Settings settings = declare_settings(config);
  ValueReader(settings, path).read(table, "");
  for (const std::string& argument : sets) settings.set_from_argument(argument);
  fit_warmup(config, settings);
  validate_deadlines(config.deadline, path);
  try {
    validate(config);
    derive_image_sizes(config);
  } catch (const ConfigError& error) {
    throw ConfigError(path + ": " + error.what());
  }
  config.resolved = resolved_toml(settings);
  for (const Setting& setting : settings.all()) config.values[setting.key] = setting.value;
  return config;
}

}  // namespace espalier
