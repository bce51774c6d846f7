#include "models/hugging_face/rotary_config.h"

#include <array>
#include <utility>

#include <nlohmann/json.hpp>

#include "models/errors.h"

namespace espalier {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<const char*, RotaryScaling>, 6> kForms = {
    {{"default", RotaryScaling::kNone},
     {"linear", RotaryScaling::kLinear},
     {"dynamic", RotaryScaling::kDynamic},
     {"yarn", RotaryScaling::kYarn},
     {"longrope", RotaryScaling::kLongRope},
     {"llama3", RotaryScaling::kLlama3}}};

std::string known_forms() {
  std::string names;
  for (const auto& [name, form] : kForms) names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

const char* name_of(RotaryScaling scaling) {
  for (const auto& [name, form] : kForms) {
    if (form == scaling) return name;
  }
  return "default";
}

// The table with what the form says: its name, for errors, and its keys.
class RopeTable {
 public:
  RopeTable(std::string path, std::string table, const json& values)
      : path_(std::move(path)), table_(std::move(table)), values_(values) {}

  [[noreturn]] void refuse(const std::string& key, const std::string& expected) const {
    throw WeightsError(path_ + ": " + table_ + "." + key + " = " +
                       (has(key) ? values_[key].dump() : "(missing)") + ", expected " + expected);
  }
  bool has(const std::string& key) const {
    return values_.is_object() && values_.contains(key) && !values_[key].is_null();
  }
  double number(const std::string& key) const {
    if (!has(key) || !values_[key].is_number() || values_[key].get<double>() <= 0) {
      refuse(key, "a number above 0");
    }
    return values_[key].get<double>();
  }
  double number_or(const std::string& key, double otherwise) const {
    return has(key) ? number(key) : otherwise;
  }
  std::vector<double> numbers(const std::string& key) const {
    if (!has(key) || !values_[key].is_array()) refuse(key, "a list of numbers");
    std::vector<double> all;
    for (const json& each : values_[key]) {
      if (!each.is_number() || each.get<double>() <= 0) refuse(key, "numbers above 0");
      all.push_back(each.get<double>());
    }
    return all;
  }
  RotaryScaling form() const {
    const std::string key = has("rope_type") ? "rope_type" : "type";
    if (!has(key)) return RotaryScaling::kNone;
    for (const auto& [name, form] : kForms) {
      if (values_[key] == name) return form;
    }
    refuse(key, "one of " + known_forms());
  }
  bool flag_or(const std::string& key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!values_[key].is_boolean()) refuse(key, "true or false");
    return values_[key].get<bool>();
  }

 private:
  std::string path_, table_;
  const json& values_;
};

// How many tokens the first training had: in the table, or beside it as Phi has it.
int64_t trained_length(const RopeTable& rope, const json& config, int64_t longest_sequence) {
  if (rope.has("original_max_position_embeddings")) {
    return static_cast<int64_t>(rope.number("original_max_position_embeddings"));
  }
  if (config.contains("original_max_position_embeddings")) {
    return config["original_max_position_embeddings"].get<int64_t>();
  }
  return longest_sequence;
}

void read_form(const RopeTable& rope, int64_t longest_sequence, RotaryOptions& o) {
  const double stretched =
      static_cast<double>(longest_sequence) / static_cast<double>(o.trained_length);
  switch (o.scaling) {
    case RotaryScaling::kNone:
      break;
    case RotaryScaling::kLinear:
      o.factor = rope.number("factor");
      break;
    case RotaryScaling::kDynamic:
      o.factor = rope.number("factor");
      o.trained_length = longest_sequence;
      break;
    case RotaryScaling::kYarn:
      o.factor = rope.number_or("factor", stretched);
      o.beta_fast = rope.number_or("beta_fast", o.beta_fast);
      o.beta_slow = rope.number_or("beta_slow", o.beta_slow);
      o.truncate = rope.flag_or("truncate", true);
      o.mscale = rope.number_or("mscale", 0);
      o.mscale_all_dim = rope.number_or("mscale_all_dim", 0);
      break;
    case RotaryScaling::kLongRope:
      o.factor = rope.number_or("factor", stretched);
      o.short_factors = rope.numbers("short_factor");
      o.long_factors = rope.numbers("long_factor");
      break;
    case RotaryScaling::kLlama3:
      o.factor = rope.number("factor");
      o.low_frequency_factor = rope.number("low_freq_factor");
      o.high_frequency_factor = rope.number("high_freq_factor");
      break;
  }
  o.attention_factor = rope.number_or("attention_factor", 0);
}

}  // namespace

RotaryOptions read_rotary_config(const std::string& path, const json& config,
                                 int64_t longest_sequence) {
  const bool is_new = config.contains("rope_parameters") && config["rope_parameters"].is_object();
  const std::string table = is_new ? "rope_parameters" : "rope_scaling";
  const json none = json::object();
  const json& values = config.contains(table) && !config[table].is_null() ? config[table] : none;
  const RopeTable rope(path, table, values);
  RotaryOptions o;
  o.base = rope.number_or("rope_theta", 10000.0);
  if (!rope.has("rope_theta") && config.contains("rope_theta")) {
    if (!config["rope_theta"].is_number() || config["rope_theta"].get<double>() <= 0) {
      throw WeightsError(path + ": rope_theta = " + config["rope_theta"].dump() +
                         ", expected a number above 0");
    }
    o.base = config["rope_theta"].get<double>();
  }
  if (rope.number_or("partial_rotary_factor", 1.0) != 1.0) {
    rope.refuse("partial_rotary_factor", "1: heads are turned as a whole");
  }
  o.scaling = rope.form();
  if (o.scaling == RotaryScaling::kNone) return o;
  o.trained_length = trained_length(rope, config, longest_sequence);
  read_form(rope, longest_sequence, o);
  return o;
}

void write_rotary_config(const RotaryOptions& o, nlohmann::ordered_json& config) {
  nlohmann::ordered_json rope = {{"rope_type", name_of(o.scaling)}};
  const bool is_plain = o.scaling == RotaryScaling::kNone;
  if (!is_plain) rope["factor"] = o.factor;
  if (!is_plain && o.scaling != RotaryScaling::kLinear && o.scaling != RotaryScaling::kDynamic) {
    rope["original_max_position_embeddings"] = o.trained_length;
  }
  if (o.attention_factor > 0) rope["attention_factor"] = o.attention_factor;
  if (o.scaling == RotaryScaling::kYarn) {
    rope["beta_fast"] = o.beta_fast;
    rope["beta_slow"] = o.beta_slow;
    rope["truncate"] = o.truncate;
    if (o.mscale > 0) rope["mscale"] = o.mscale;
    if (o.mscale_all_dim > 0) rope["mscale_all_dim"] = o.mscale_all_dim;
  }
  if (o.scaling == RotaryScaling::kLongRope) {
    rope["short_factor"] = o.short_factors;
    rope["long_factor"] = o.long_factors;
  }
  if (o.scaling == RotaryScaling::kLlama3) {
    rope["low_freq_factor"] = o.low_frequency_factor;
    rope["high_freq_factor"] = o.high_frequency_factor;
  }
  config["rope_theta"] = o.base;
  if (!is_plain) config["rope_scaling"] = rope;
  rope["rope_theta"] = o.base;
  config["rope_parameters"] = rope;
}

}  // namespace espalier
