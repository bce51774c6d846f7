#include "trainer/config/config_text.h"

#include <sstream>

#include "trainer/errors.h"

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

// A config that has one stage of every kind, named as in configs/quickstart.toml.
RunConfig example_config() {
  RunConfig config;
  StageConfig tokenizer;
  tokenizer.name = tokenizer.kind = "tokenizer";
  tokenizer.loss = tokenizer_losses();
  tokenizer.tasks = tokenizer_tasks();
  StageConfig unified;
  unified.name = unified.kind = "unified";
  unified.loss = unified_losses();
  unified.tasks = unified_tasks();
  config.stages = {tokenizer, unified};
  return config;
}

// "stage.tokenizer.optimizer" -> "stage.optimizer", as the table is written in the file.
std::string table_header(const std::string& table) {
  if (!table.starts_with("stage.")) return "[" + table + "]";
  const size_t dot = table.find('.', 6);
  return dot == std::string::npos ? "[[stage]]" : "[stage" + table.substr(dot) + "]";
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

}  // namespace

std::string resolved_toml(const Settings& settings, const RunConfig& config) {
  std::ostringstream text;
  text << "# Every setting of the run, and where its value came from.\n";
  std::string table;
  for (const Setting& setting : settings.all()) {
    const SplitKey key = split(setting.key);
    if (key.table != table) {
      table = key.table;
      text << "\n" << table_header(table) << "\n";
      for (const StageConfig& stage : config.stages) {
        if (table == "stage." + stage.name) text << "name = " << toml_value(stage.name) << "\n";
      }
    }
    text << key.name << " = " << toml_value(setting.value) << "  # " << setting.origin << "\n";
  }
  return text.str();
}

std::string explain_config(const std::string& key) {
  RunConfig config = example_config();
  const Settings settings = declare_settings(config);
  std::string text;
  for (const Setting& setting : settings.all()) {
    const bool asked = key.empty() || setting.key == key || setting.key.starts_with(key + ".");
    if (asked) text += explain_setting(setting) + (key == setting.key ? "" : "\n");
  }
  if (text.empty()) {
    const std::string nearest = settings.nearest_key(key);
    throw ConfigError(key + ": there is no such setting" +
                      (nearest.empty() ? "" : "; did you mean " + nearest + "?"));
  }
  return text;
}

std::string generate_config_reference() {
  RunConfig config = example_config();
  const Settings settings = declare_settings(config);
  std::ostringstream page;
  page << "# Settings\n\n"
          "Made by `espalier config explain --markdown` from the declarations in `trainer/`; do "
          "not edit.\n\n"
          "A config is one TOML file. Any setting can also be given on the command line: `--set "
          "seed=7`, `--set stage.tokenizer.steps=20`, `--set stage.*.precision=bf16`. A run "
          "directory keeps `config.toml` with every value and where it came from.\n\n"
          "A run is a list of stages. Each `[[stage]]` has a `name`, by which `--set` addresses "
          "it; the tables after it (`[stage.optimizer]`, `[stage.loss]`, `[stage.tasks]`) belong "
          "to it.\n";
  std::string table = "-";
  for (const Setting& setting : settings.all()) {
    const SplitKey key = split(setting.key);
    // All kinds of stages share these; they are listed once.
    const bool by_kind = key.table.ends_with(".loss") || key.table.ends_with(".tasks");
    if (key.table.starts_with("stage.unified") && !by_kind) continue;
    if (key.table != table) {
      table = key.table;
      page << "\n## " << (table.empty() ? "Top of the file" : "`" + table_header(table) + "`");
      if (by_kind) page << " of a stage of kind `" << table.substr(6, table.rfind('.') - 6) << "`";
      page << "\n\n" << kTableHead;
    }
    append_row(page, setting);
  }
  return page.str();
}

}  // namespace espalier
