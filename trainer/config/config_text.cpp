#include "trainer/config/config_text.h"

#include <sstream>
#include <vector>

#include "trainer/config/run_config.h"
#include "trainer/errors.h"
#include "trainer/registry.h"

namespace espalier {
namespace {

struct SplitKey {
  std::string table, name;
};

SplitKey split(const std::string& key) {
  const size_t dot = key.rfind('.');
  if (dot == std::string::npos) return {"", key};
  return {key.substr(0, dot), key.substr(dot + 1)};
}

std::vector<std::string> parts_of(const std::string& key) {
  std::vector<std::string> parts;
  std::stringstream stream(key);
  for (std::string part; std::getline(stream, part, '.');) parts.push_back(part);
  return parts;
}

std::string joined(const std::vector<std::string>& parts, size_t first) {
  std::string text;
  for (size_t i = first; i < parts.size(); ++i) text += "." + parts[i];
  return text;
}

// How a table is written in the file. Stages and their objectives are lists, whose entries carry
// their names inside: "stage.a.objectives.b" -> [[stage.objectives]].
struct TableHeader {
  std::string text;
  std::string entry_name;  // not empty: the header begins an entry of that name
};

TableHeader table_header(const std::string& table) {
  const std::vector<std::string> parts = parts_of(table);
  if (parts[0] != "stage") return {"[" + table + "]", ""};
  if (parts.size() == 2) return {"[[stage]]", parts[1]};
  if (parts[2] != "objectives") return {"[stage" + joined(parts, 2) + "]", ""};
  if (parts.size() == 4) return {"[[stage.objectives]]", parts[3]};
  return {"[stage.objectives" + joined(parts, 4) + "]", ""};
}

// `asked` names the setting or a table around it. Where the example has the name of a thing, any
// name will do.
bool is_asked_for(const std::vector<std::string>& example, const std::vector<std::string>& asked) {
  if (asked.size() > example.size()) return false;
  for (size_t i = 0; i < asked.size(); ++i) {
    const bool is_name = example[i] == "NAME" || (i == 1 && example[0] == "model") ||
                         (i > 0 && example[i - 1] == "objectives");
    if (!is_name && example[i] != asked[i]) return false;
  }
  return true;
}

void append_row(std::ostringstream& page, const Setting& setting) {
  std::string type = type_name(setting.type);
  const std::string range = range_text(setting);
  if (!range.empty()) type += ", " + range;
  page << "| `" << split(setting.key).name << "` | " << type << " | `"
       << toml_value(setting.default_value) << "` | " << setting.spec.unit << " | "
       << setting.spec.help << " |\n";
}

constexpr const char* kTableHead =
    "| name | type and range | default | unit | what it does |\n|---|---|---|---|---|\n";

constexpr const char* kIntroduction =
    "# Settings\n\n"
    "Made by `espalier config explain --markdown` from the declarations of their owners; do not "
    "edit.\n\n"
    "A config is one TOML file. Any setting can also be given on the command line: `--set seed=7`, "
    "`--set stage.codes.steps=20`, `--set 'stage.*.precision=bf16'`. A run directory keeps "
    "`config.toml` with every value and where it came from.\n\n"
    "Data sets, text tokenizers, episodes, teachers and models are declared once, under names of "
    "your "
    "choice. A run is a list of stages: each `[[stage]]` has a `name`, the model it `trains`, and "
    "`[[stage.objectives]]`, each with a `kind` and, where two are of one kind, a `name`. The "
    "tables after it (`[stage.optimizer]`) belong to it. A stage goes on from what the stages "
    "before it made of its model.\n";

// "of kind `y_decoder`: …" for tables that only one kind has.
std::string about_kind(const std::string& table) {
  const std::vector<std::string> parts = parts_of(table);
  if (parts.size() == 2 && parts[0] == "model") {
    const ModelKind& kind = registry().model(parts[1], table);
    return "of kind `" + kind.name + "`\n\n" + kind.help;
  }
  if (parts.size() == 4 && parts[2] == "objectives") {
    const ObjectiveKind& kind = registry().objective(parts[3], table);
    return "of kind `" + kind.name + "`, for models of kind `" + kind.trains + "`\n\n" + kind.help;
  }
  return "";
}

std::string heading(const std::string& table) {
  if (table.empty()) return "Top of the file";
  const std::vector<std::string> parts = parts_of(table);
  std::string header = table_header(table).text;
  if (parts[0] == "model") header = "[model.NAME" + joined(parts, 2) + "]";
  const std::string kind = about_kind(table);
  return "`" + header + "`" + (kind.empty() ? "" : " ") + kind;
}

}  // namespace

RunConfig example_config() {
  RunConfig config;
  config.data.emplace_back().name = "NAME";
  config.texts.emplace_back().name = "NAME";
  config.episodes.emplace_back().name = "NAME";
  TeacherConfig& teacher = config.teachers.emplace_back();
  teacher.name = "NAME";
  teacher.kind = registry().teachers().front().name;
  for (const ModelKind& kind : registry().models()) {
    ModelConfig& model = config.models.emplace_back();
    model.name = model.kind = kind.name;
    model.settings = kind.make_settings();
    if (kind.branches != nullptr) model.settings->add_part("branch", "NAME");
  }
  StageConfig& stage = config.stages.emplace_back();
  stage.name = "NAME";
  for (const ObjectiveKind& kind : registry().objectives()) {
    ObjectiveConfig& objective = stage.objectives.emplace_back();
    objective.name = objective.kind = kind.name;
    objective.settings = kind.make_settings();
  }
  return config;
}

std::string resolved_toml(const Settings& settings) {
  std::ostringstream text;
  text << "# Every setting of the run, and where its value came from.\n";
  std::string table;
  for (const Setting& setting : settings.all()) {
    const SplitKey key = split(setting.key);
    if (key.table != table) {
      table = key.table;
      const TableHeader header = table_header(table);
      text << "\n" << header.text << "\n";
      if (!header.entry_name.empty()) text << "name = " << toml_value(header.entry_name) << "\n";
    }
    text << key.name << " = " << toml_value(setting.value) << "  # " << setting.origin << "\n";
  }
  return text.str();
}

namespace {

// The settings that are asked for, all when `key` is empty, of those of `config`.
std::vector<Setting> settings_at(const std::string& key, const Settings& settings) {
  const std::vector<std::string> asked = parts_of(key);
  std::vector<Setting> found;
  for (const Setting& setting : settings.all()) {
    if (is_asked_for(parts_of(setting.key), asked)) found.push_back(setting);
  }
  if (found.empty()) {
    const std::string nearest = settings.nearest_key(key);
    throw ConfigError(key + ": there is no such setting" +
                      (nearest.empty() ? "" : "; did you mean " + nearest + "?"));
  }
  return found;
}

}  // namespace

std::string explain_config(const std::string& key) {
  RunConfig config = example_config();
  const Settings settings = declare_settings(config);
  std::string text;
  for (const Setting& setting : settings_at(key, settings)) text += explain_setting(setting) + "\n";
  text.pop_back();
  return text;
}

nlohmann::json settings_json(const std::string& key) {
  RunConfig config = example_config();
  const Settings settings = declare_settings(config);
  nlohmann::json all = nlohmann::json::array();
  for (const Setting& setting : settings_at(key, settings)) {
    all.push_back({{"key", setting.key},
                   {"help", setting.spec.help},
                   {"type", type_name(setting.type)},
                   {"range", range_text(setting)},
                   {"unit", setting.spec.unit},
                   {"default", setting.default_value},
                   {"also", setting.spec.also}});
  }
  return all;
}

std::string config_reference() {
  RunConfig config = example_config();
  const Settings settings = declare_settings(config);
  std::ostringstream page;
  page << kIntroduction;
  std::string table = "-";
  for (const Setting& setting : settings.all()) {
    const SplitKey key = split(setting.key);
    if (key.table != table) {
      table = key.table;
      page << "\n## " << heading(table) << "\n\n" << kTableHead;
    }
    append_row(page, setting);
  }
  return page.str();
}

}  // namespace espalier
