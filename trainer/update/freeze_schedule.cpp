#include "trainer/update/freeze_schedule.h"

#include <charconv>
#include <cmath>

#include "trainer/errors.h"
#include "trainer/update/name_pattern.h"

namespace espalier {
namespace {

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// "PATTERN: REST"
std::pair<std::string, std::string> cut_at_colon(const std::string& text, const std::string& key,
                                                 const std::string& example) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || trimmed(text.substr(0, colon)).empty()) {
    throw ConfigError(key + ": \"" + text + "\" has no pattern and colon; write it like \"" +
                      example + "\"");
  }
  return {trimmed(text.substr(0, colon)), trimmed(text.substr(colon + 1))};
}

template <class Number>
bool parse_number(const std::string& text, Number& number) {
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && rest == end;
}

struct Part {
  ParameterGroup group;
  std::vector<FreezeSpan> spans = {};
  std::vector<std::string> names = {};
};

std::vector<FreezeSpan> spans_of(const std::vector<FreezeSpan>& spans, const std::string& group,
                                 const std::string& name, std::vector<bool>& used) {
  std::vector<FreezeSpan> own;
  for (size_t s = 0; s < spans.size(); ++s) {
    if (!fits_parameter(spans[s].pattern, group, name)) continue;
    used[s] = true;
    own.push_back(spans[s]);
  }
  return own;
}

Part& part_of(std::vector<Part>& parts, const std::vector<FreezeSpan>& spans,
              const std::string& group) {
  for (Part& part : parts) {
    if (part.spans == spans) return part;
  }
  std::string name = group;
  for (const FreezeSpan& span : spans) name += "/" + span.pattern + ":" + std::to_string(span.from);
  return parts.emplace_back(Part{.group = {name, {}}, .spans = spans});
}

}  // namespace

std::vector<FreezeSpan> parse_freeze_spans(const std::vector<std::string>& texts,
                                           const std::string& key) {
  constexpr const char* kExample = "trunk.*: 0-200";
  std::vector<FreezeSpan> spans;
  for (const std::string& text : texts) {
    const auto [pattern, steps] = cut_at_colon(text, key, kExample);
    FreezeSpan span{.pattern = pattern};
    const size_t dash = steps.find('-');
    const std::string to = dash == std::string::npos ? "" : trimmed(steps.substr(dash + 1));
    const bool is_right = dash != std::string::npos &&
                          parse_number(trimmed(steps.substr(0, dash)), span.from) &&
                          (to.empty() || parse_number(to, span.to));
    if (!is_right || span.from < 0 || span.from >= span.to) {
      throw ConfigError(key + ": \"" + text + "\" says no steps; write it like \"" + kExample +
                        "\" (frozen in steps 0 to 199) or \"trunk.*: 200-\" (from then on)");
    }
    spans.push_back(span);
  }
  return spans;
}

ScheduledGroups cut_by_schedule(const std::vector<ParameterGroup>& groups,
                                const std::vector<std::string>& names,
                                const std::vector<FreezeSpan>& spans) {
  ScheduledGroups all;
  all.used.assign(spans.size(), false);
  size_t next = 0;
  for (const ParameterGroup& group : groups) {
    std::vector<Part> parts = {{.group = {group.name, {}}}};
    for (const at::Tensor& parameter : group.parameters) {
      const std::string& name = names.at(next++);
      Part& part = part_of(parts, spans_of(spans, group.name, name, all.used), group.name);
      part.group.parameters.push_back(parameter);
      part.names.push_back(name);
    }
    std::vector<size_t>& became = all.became.emplace_back();
    for (Part& part : parts) {
      became.push_back(all.groups.size());
      all.groups.push_back(std::move(part.group));
      all.spans.push_back(std::move(part.spans));
      all.names.insert(all.names.end(), part.names.begin(), part.names.end());
    }
  }
  return all;
}

std::vector<PatternFactor> parse_pattern_factors(const std::vector<std::string>& texts,
                                                 const std::string& key) {
  constexpr const char* kExample = "*embedding*: 0.1";
  std::vector<PatternFactor> factors;
  for (const std::string& text : texts) {
    const auto [pattern, number] = cut_at_colon(text, key, kExample);
    PatternFactor factor{.pattern = pattern};
    if (!parse_number(number, factor.factor) || !std::isfinite(factor.factor) ||
        factor.factor < 0) {
      throw ConfigError(key + ": \"" + text + "\" has no factor of 0 or more; write it like \"" +
                        kExample + "\"");
    }
    factors.push_back(factor);
  }
  return factors;
}

}  // namespace espalier
